//! Resizing along lines of RGB with AVX2.
//!
//! A step takes four pixels of a line and their weights. The bytes of each two pixels are paired by channel, so that one
//! instruction multiplies and adds both; a register then holds sums of red, green, blue and nothing, twice. Four lines
//! share the weights.

use std::arch::x86_64::*;

use super::taps::{LOW_BITS, PRECISION, Taps};

/// Lines at once, and pixels of each in a step.
const LINES: usize = 4;
const PIXELS: usize = 4;
const CHANNELS: usize = 3;
/// Bytes that are loaded for a step: more than those of its pixels.
const LOADED: usize = 16;

/// Taps in steps; those that fill up the last one weigh nothing.
struct Steps {
    /// First byte in the line, and where the steps begin.
    places: Vec<(usize, usize)>,
    /// Upper and lower parts of four weights each.
    weights: Vec<[i64; 2]>,
}

impl Steps {
    fn new(taps: &Taps) -> Self {
        let mut steps = Self { places: Vec::with_capacity(taps.len()), weights: Vec::new() };
        for (first, weights) in taps.iter() {
            steps.places.push((first * CHANNELS, steps.weights.len()));
            steps.weights.extend(weights.chunks(PIXELS).map(|four| [0, 1].map(|part| packed(four, part))));
        }
        steps
    }

    /// Each place: its first byte in the line, and the weights of its steps.
    fn iter(&self) -> impl Iterator<Item = (usize, &[[i64; 2]])> {
        let ends = self.places.iter().skip(1).map(|(_, start)| *start).chain([self.weights.len()]);
        self.places.iter().zip(ends).map(|(&(first, start), end)| (first, &self.weights[start..end]))
    }
}

/// A part of up to four weights, the first in the lowest bits.
fn packed(weights: &[[i16; 2]], part: usize) -> i64 {
    let place = |number: usize| 16 * number as u32;
    weights.iter().enumerate().map(|(number, weight)| i64::from(weight[part] as u16) << place(number)).sum()
}

/// [`super::resample_along`] for three channels; needs AVX2, and taps that lie in the line.
pub(super) fn along(data: &[u8], stride: usize, taps: &Taps, output: &mut [u8]) {
    let new_stride = taps.len() * CHANNELS;
    let steps = Steps::new(taps);
    let mut copy = Vec::new();
    let turns = output.chunks_mut(new_stride * LINES).enumerate();
    for (turn, output) in turns {
        let mut lines = &data[turn * LINES * stride..];
        if lines.len() < LINES * stride + LOADED {
            // The last lines: a load would go beyond the image.
            copy.clear();
            copy.extend_from_slice(lines);
            copy.resize(LINES * stride + LOADED, 0);
            lines = &copy;
        }
        // SAFETY: the caller looked for AVX2. A step begins at a pixel of the line, because its taps do, so that it loads
        // less than `LOADED` bytes beyond the line, and that many follow the last line.
        unsafe { along_lines(lines, stride, &steps, new_stride, output) };
    }
}

/// Resizes `LINES` lines, of which `output` takes the first.
///
/// # Safety
/// The CPU has AVX2; every step begins inside a line; `LOADED` bytes follow the last line.
#[target_feature(enable = "avx2")]
unsafe fn along_lines(lines: &[u8], stride: usize, steps: &Steps, new_stride: usize, output: &mut [u8]) {
    // Two pixels r g b R G B become the pairs r R, g G, b B, of 16 bits each; the upper half takes the next two.
    let pairs = _mm256_setr_epi8(
        0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1,
        -1, -1, -1, -1,
    );
    let halves = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    let spread =
        |weights| _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(_mm_cvtsi64_si128(weights)), halves);
    for (place, (first, weights)) in steps.iter().enumerate() {
        let (mut high, mut low) = ([_mm256_setzero_si256(); LINES], [_mm256_setzero_si256(); LINES]);
        for (step, &[weights_high, weights_low]) in weights.iter().enumerate() {
            let (weights_high, weights_low) = (spread(weights_high), spread(weights_low));
            for line in 0..LINES {
                let at = line * stride + first + step * PIXELS * CHANNELS;
                debug_assert!(at + LOADED <= lines.len());
                // SAFETY: promised by the caller.
                let bytes = unsafe { _mm_loadu_si128(lines.as_ptr().add(at).cast()) };
                let pixels = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), pairs);
                high[line] = _mm256_add_epi32(high[line], _mm256_madd_epi16(pixels, weights_high));
                low[line] = _mm256_add_epi32(low[line], _mm256_madd_epi16(pixels, weights_low));
            }
        }
        for (line, output) in output.chunks_exact_mut(new_stride).enumerate() {
            let bytes = rounded(high[line], low[line]);
            output[place * CHANNELS..][..CHANNELS].copy_from_slice(&bytes[..CHANNELS]);
        }
    }
}

/// The bytes of the sums in both halves of the two parts.
#[inline]
#[target_feature(enable = "avx2")]
fn rounded(high: __m256i, low: __m256i) -> [u8; 4] {
    let sum = _mm256_add_epi32(_mm256_slli_epi32::<{ LOW_BITS as i32 }>(high), low);
    let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let half = _mm_set1_epi32(1 << (PRECISION - 1));
    let whole = _mm_srai_epi32::<{ PRECISION as i32 }>(_mm_add_epi32(sum, half));
    let words = _mm_packs_epi32(whole, whole);
    _mm_cvtsi128_si32(_mm_packus_epi16(words, words)).to_le_bytes()
}
