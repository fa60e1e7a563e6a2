//! Distributions from which parameters are drawn.

use std::f64::consts::TAU;

/// How a parameter begins when it is not loaded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All equal.
    Const(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// Uniform between minus and plus this bound.
    Uniform(f32),
}

impl Init {
    /// All zero.
    pub const ZEROS: Self = Self::Const(0.0);
    /// All one.
    pub const ONES: Self = Self::Const(1.0);

    /// PyTorch's default for the weight and bias of a linear layer or convolution: uniform in ±1/√fan_in.
    pub fn fan_in(fan_in: usize) -> Self {
        Self::Uniform((fan_in as f32).sqrt().recip())
    }

    /// With another standard deviation, if it is normal.
    pub(crate) fn spread(self, factor: f32) -> Self {
        match self {
            Self::Normal(std) => Self::Normal(std * factor),
            other => other,
        }
    }

    /// Draws `len` values. The same seed and name give the same values, whatever else is drawn.
    pub(crate) fn draw(self, len: usize, seed: u64, name: &str) -> Vec<f32> {
        let mut random = SplitMix64::for_name(seed, name);
        match self {
            Self::Const(value) => vec![value; len],
            Self::Normal(std) => (0..len).map(|_| (random.normal() * f64::from(std)) as f32).collect(),
            Self::Uniform(bound) => {
                (0..len).map(|_| ((2.0 * random.unit() - 1.0) * f64::from(bound)) as f32).collect()
            }
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct SplitMix64(u64);

impl SplitMix64 {
    /// Seeds with the seed and the FNV-1a hash of the name.
    fn for_name(seed: u64, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1].
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_distribution() {
        for (init, variance) in [(Init::Normal(0.5), 0.25), (Init::Uniform(0.3), 0.03)] {
            let values = init.draw(100_000, 1, "w");
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / 1e5;
            let var = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / 1e5 - mean * mean;
            assert!(mean.abs() < 0.006, "{init:?}: mean {mean}");
            assert!((var / variance - 1.0).abs() < 0.02, "{init:?}: variance {var}");
        }
    }

    #[test]
    fn a_name_and_a_seed_decide_the_values() {
        let draw = |seed, name| Init::Normal(1.0).draw(8, seed, name);
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
    }
}
