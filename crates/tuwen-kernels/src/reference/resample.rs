//! Resizing of bytes in fixed point.

use crate::Taps;
use crate::resample::{LOW_BITS, PRECISION};

/// Each place and channel of each line: its weighted sum, rounded to the nearest byte, halves upwards.
pub fn resample_along(data: &[u8], channels: usize, width: usize, taps: &Taps) -> Vec<u8> {
    let mut output = Vec::new();
    for line in data.chunks_exact(width * channels) {
        for (first, weights) in taps.iter() {
            let byte = |tap: usize, channel: usize| line[(first + tap) * channels + channel];
            output.extend((0..channels).map(|channel| weigh(weights, |tap| byte(tap, channel))));
        }
    }
    output
}

/// The same across lines of `stride` bytes.
pub fn resample_across(data: &[u8], stride: usize, taps: &Taps) -> Vec<u8> {
    let mut output = Vec::new();
    for (first, weights) in taps.iter() {
        output.extend((0..stride).map(|column| weigh(weights, |tap| data[(first + tap) * stride + column])));
    }
    output
}

fn weigh(weights: &[[i16; 2]], byte: impl Fn(usize) -> u8) -> u8 {
    let weight = |&[high, low]: &[i16; 2]| (i64::from(high) << LOW_BITS) + i64::from(low);
    let products = weights.iter().enumerate().map(|(tap, parts)| weight(parts) * i64::from(byte(tap)));
    let sum: i64 = products.sum();
    ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
}
