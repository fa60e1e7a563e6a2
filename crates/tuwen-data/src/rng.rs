//! Random numbers that stay the same: across machines, threads and versions of this crate.
//!
//! The generator is xoshiro256++ (Blackman and Vigna 2019, <https://prng.di.unimi.it>), its state filled by
//! SplitMix64. A generator is named by a list of numbers, such as (seed, epoch, position), so that nothing about
//! it has to be saved to continue a run exactly.

/// A generator of random numbers. Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

/// One step of SplitMix64: advances `state` and returns a well-mixed number.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Rng {
    /// The generator that belongs to these numbers; their order and count matter.
    pub fn new(name: &[u64]) -> Self {
        let mut state = 0;
        for &part in name {
            state ^= part;
            state = split_mix(&mut state);
        }
        Self { state: std::array::from_fn(|_| split_mix(&mut state)) }
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Uniform in `0.0..1.0`, of 24 bits.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Uniform between `low` and `high`.
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// True with this probability; never for 0, always for 1.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }

    /// Uniform in `0..bound`, without bias (Lemire 2019); 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            let low = product as u64;
            if low >= bound || low >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// So many of the items, or all if they are fewer, in random order.
    pub fn some_of<T: Clone>(&mut self, items: &[T], count: usize) -> Vec<T> {
        let mut left: Vec<&T> = items.iter().collect();
        let draws = 0..count.min(items.len());
        draws.map(|_| left.swap_remove(self.below(left.len() as u64) as usize).clone()).collect()
    }

    /// Puts the items in random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn matches_the_published_generators() {
        // SplitMix64 from 1234567, as published with the reference implementation.
        let mut state = 1_234_567;
        assert_eq!(split_mix(&mut state), 6_457_827_717_110_365_317);
        assert_eq!(split_mix(&mut state), 3_203_168_211_198_807_973);
        // xoshiro256++ from the state 1, 2, 3, 4.
        let mut rng = Rng { state: [1, 2, 3, 4] };
        let drawn: Vec<u64> = (0..4).map(|_| rng.next_u64()).collect();
        assert_eq!(drawn, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn the_name_decides_the_numbers() {
        let first = |name: &[u64]| Rng::new(name).next_u64();
        assert_eq!(first(&[1, 2, 3]), first(&[1, 2, 3]));
        let names: [&[u64]; 6] = [&[1, 2, 3], &[2, 1, 3], &[1, 2], &[1, 2, 3, 0], &[0], &[]];
        let drawn: std::collections::BTreeSet<u64> = names.iter().map(|name| first(name)).collect();
        assert_eq!(drawn.len(), names.len());
    }

    #[test]
    fn draws_are_uniform() {
        let mut rng = Rng::new(&[7]);
        let mut counts = [0u32; 10];
        let mut mean = 0.0;
        for _ in 0..100_000 {
            counts[rng.below(10) as usize] += 1;
            mean += f64::from(rng.uniform()) / 100_000.0;
        }
        // Five standard deviations.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 475), "{counts:?}");
        assert!((mean - 0.5).abs() < 0.0046, "{mean}");
        assert!((0..1000).all(|_| rng.chance(1.0) && !rng.chance(0.0)));
        assert_eq!(rng.below(0), 0);
    }

    proptest! {
        #[test]
        fn a_shuffle_is_a_permutation(seed: u64, length in 0usize..500) {
            let mut order: Vec<u32> = (0..length as u32).collect();
            Rng::new(&[seed]).shuffle(&mut order);
            let mut again: Vec<u32> = (0..length as u32).collect();
            Rng::new(&[seed]).shuffle(&mut again);
            prop_assert_eq!(&order, &again);
            order.sort_unstable();
            prop_assert!(order.iter().copied().eq(0..length as u32));
        }

        #[test]
        fn below_stays_below(seed: u64, bound in 1u64..) {
            prop_assert!(Rng::new(&[seed]).below(bound) < bound);
        }
    }
}
