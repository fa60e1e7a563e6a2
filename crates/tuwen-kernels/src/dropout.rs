//! Dropout: a random part of the elements becomes zero. Numbers are made from their place alone, so that threads and a second
//! run leave out the same.

use crate::threads::{CHUNK, parallel_chunks_mut};

/// Elements that one random number decides on.
const GROUP: usize = 4;
/// SplitMix64's step (Steele, Lea and Flood 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// How much is left out at random, and which numbers decide what.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Dropout {
    /// The part of the elements that becomes zero, at least 0 and below 1.
    pub rate: f32,
    /// Decides which.
    pub seed: u64,
}

impl Dropout {
    /// Whether anything is left out.
    pub fn is_on(&self) -> bool {
        self.rate > 0.0
    }

    /// Elements whose number of sixteen random bits is below the first become zero, the others grow by the second.
    fn limits(&self) -> (u64, f32) {
        assert!((0.0..1.0).contains(&self.rate), "dropout: a rate of {}", self.rate);
        let threshold = (f64::from(self.rate) * 65536.0).round() as u64;
        // By what is kept in fact, so that the mean stays.
        (threshold, 65536.0 / (65536 - threshold.min(65535)) as f32)
    }

    /// Leaves out a part of a row; which, depends on its number alone.
    #[inline(always)]
    pub(crate) fn leave_out_of_row(&self, row: usize, x: &mut [f32]) {
        leave_out(x, mixed(self.seed.wrapping_add((row as u64).wrapping_mul(STEP))), self.limits());
    }
}

#[inline(always)]
fn mixed(state: u64) -> u64 {
    let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[inline(always)]
fn leave_out(x: &mut [f32], mut state: u64, (threshold, kept): (u64, f32)) {
    for x in x.chunks_mut(GROUP) {
        state = state.wrapping_add(STEP);
        let mut random = mixed(state);
        for x in x {
            *x = if random & 0xffff >= threshold { kept * *x } else { 0.0 };
            random >>= 16;
        }
    }
}

multiversion! {
    fn dropout_chunk(x: &[f32], state: u64, limits: (u64, f32), y: &mut [f32]) {
        y.copy_from_slice(x);
        leave_out(y, state, limits);
    }
}

/// `y = x / (1 - rate)`, but for a part `rate` of the elements, which become zero; the seed decides which.
pub fn dropout(x: &[f32], dropout: Dropout, y: &mut [f32]) {
    const { assert!(CHUNK.is_multiple_of(GROUP)) };
    assert_eq!(x.len(), y.len(), "dropout: x and y differ in length");
    let limits = dropout.limits();
    parallel_chunks_mut(y, CHUNK, |i, y| {
        let state = dropout.seed.wrapping_add(((i * CHUNK / GROUP) as u64).wrapping_mul(STEP));
        dropout_chunk(&x[i * CHUNK..][..y.len()], state, limits, y);
    });
}
