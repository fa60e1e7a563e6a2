//! The first convolution of a network: images of few channels, a plane each, to maps.
//!
//! A window is so short that a product of matrices would copy more than it multiplies. Here each weight, for 32 channels at
//! once, meets the numbers of eight windows straight from the planes.

use std::arch::x86_64::*;

use super::numbers::{clear, clear_ends, first, write};
use super::{MapShape, STEP};
use crate::aligned::Scratch;
use crate::conv::ConvShape;

/// Windows whose sums are in registers together.
const WINDOWS: usize = 8;

/// What the lines of the output have in common.
struct Stem<'a> {
    shape: &'a ConvShape,
    to: MapShape,
    /// `[in, kernel, kernel, out]`
    weight: Scratch,
    bias: &'a [f32],
    relu: bool,
    /// Numbers of a line of the image with its borders, and with what the last windows reach beyond.
    line: usize,
}

pub(super) fn convolve(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    shape: &ConvShape,
    relu: bool,
    to: &MapShape,
    y: &mut [f32],
) {
    clear_ends(y, to);
    let &ConvShape { in_channels, out_channels, kernel, stride, .. } = shape;
    let mut turned = Scratch::take(weight.len());
    crate::permute(weight, &[out_channels, in_channels * kernel * kernel], &[1, 0], &mut turned);
    let line = (to.width.next_multiple_of(WINDOWS) - 1) * stride + kernel;
    let line = line.max(shape.width + shape.padding);
    let stem = Stem { shape, to: *to, weight: turned, bias, relu, line };
    let y = first(y.as_ptr(), to);
    to.for_each_line(|line, at| {
        let y = y.get().wrapping_add(at);
        // SAFETY: maps are only supported where there is AVX-512 too; a line of the maps, which is this task's.
        unsafe {
            match line % (to.height + 1) {
                row if row == to.height => clear(y, to.pitch() * to.depth()),
                row => stem.line(x, line / (to.height + 1), row, y),
            }
        }
    });
}

impl Stem<'_> {
    /// Writes a line of an image.
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn line(&self, x: &[f32], image: usize, row: usize, y: *mut u16) {
        let lines = self.lines(x, image, row);
        let depth = self.to.depth();
        for start in (0..self.to.width).step_by(WINDOWS) {
            let count = WINDOWS.min(self.to.width - start);
            for channel in (0..self.to.channels).step_by(STEP) {
                // SAFETY: the caller's contract.
                unsafe {
                    let sums = self.sums(&lines[start * self.shape.stride..], channel);
                    for (pixel, sums) in sums.into_iter().take(count).enumerate() {
                        let y = y.wrapping_add((start + pixel) * depth + channel);
                        write(y, sums, self.to.rest());
                    }
                }
            }
        }
        // SAFETY: the pixel behind the line.
        unsafe { clear(y.add(self.to.width * depth), depth) };
    }

    /// The lines of an image that the windows of a row meet, `[in, kernel, line]`, with zeros around.
    fn lines(&self, x: &[f32], image: usize, row: usize) -> Scratch {
        let &ConvShape { in_channels, height, width, kernel, stride, padding, .. } = self.shape;
        let mut lines = Scratch::take(in_channels * kernel * self.line);
        for (i, line) in lines.chunks_exact_mut(self.line).enumerate() {
            let (channel, from) = (i / kernel, (row * stride + i % kernel).wrapping_sub(padding));
            line.fill(0.0);
            if from < height {
                let from = ((image * in_channels + channel) * height + from) * width;
                line[padding..padding + width].copy_from_slice(&x[from..from + width]);
            }
        }
        lines
    }

    /// 32 channels of the windows whose lines begin here.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn sums(&self, lines: &[f32], channel: usize) -> [[__m512; 2]; WINDOWS] {
        let &ConvShape { in_channels, kernel, stride, out_channels, .. } = self.shape;
        let zero = _mm512_setzero_ps();
        // SAFETY: 32 numbers from the channel on, of the bias and of each row of the weight; the lines hold whole blocks.
        unsafe {
            let pair = |from: &[f32]| {
                let from = from[channel..channel + STEP].as_ptr();
                [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16))]
            };
            let mut sums = [pair(self.bias); WINDOWS];
            let mut weights = self.weight.chunks_exact(out_channels);
            for line in 0..in_channels * kernel {
                let line = &lines[line * self.line..];
                for (column, weight) in weights.by_ref().take(kernel).enumerate() {
                    let numbers = line[column..=column + (WINDOWS - 1) * stride].as_ptr();
                    let [low, high] = pair(weight);
                    for (window, sums) in sums.iter_mut().enumerate() {
                        let number = _mm512_set1_ps(*numbers.add(window * stride));
                        sums[0] = _mm512_fmadd_ps(number, low, sums[0]);
                        sums[1] = _mm512_fmadd_ps(number, high, sums[1]);
                    }
                }
            }
            if self.relu { sums.map(|sums| sums.map(|sum| _mm512_max_ps(sum, zero))) } else { sums }
        }
    }
}
