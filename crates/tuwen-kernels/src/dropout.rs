//! Dropout: a random part of the elements becomes zero. Numbers are made from their place alone, so that threads and a second
//! run leave out the same.

use crate::threads::{CHUNK, parallel_chunks_mut};

/// Elements that one random number decides on.
const GROUP: usize = 4;
/// SplitMix64's step (Steele, Lea and Flood 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
fn mixed(state: u64) -> u64 {
    let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

multiversion! {
    fn dropout_chunk(x: &[f32], state: u64, threshold: u64, kept: f32, y: &mut [f32]) {
        let mut state = state;
        for (y, x) in y.chunks_mut(GROUP).zip(x.chunks(GROUP)) {
            state = state.wrapping_add(STEP);
            let mut random = mixed(state);
            for (y, x) in y.iter_mut().zip(x) {
                *y = if random & 0xffff >= threshold { kept * x } else { 0.0 };
                random >>= 16;
            }
        }
    }
}

/// `y = x / (1 - rate)`, but for a part `rate` of the elements, which become zero; the seed decides which.
pub fn dropout(x: &[f32], rate: f32, seed: u64, y: &mut [f32]) {
    const { assert!(CHUNK.is_multiple_of(GROUP)) };
    assert_eq!(x.len(), y.len(), "dropout: x and y differ in length");
    assert!((0.0..1.0).contains(&rate), "dropout: a rate of {rate}");
    let threshold = (f64::from(rate) * 65536.0).round() as u64;
    // What is kept in fact, so that the mean stays.
    let kept = 65536.0 / (65536 - threshold.min(65535)) as f32;
    parallel_chunks_mut(y, CHUNK, |i, y| {
        let state = seed.wrapping_add(((i * CHUNK / GROUP) as u64).wrapping_mul(STEP));
        dropout_chunk(&x[i * CHUNK..][..y.len()], state, threshold, kept, y);
    });
}
