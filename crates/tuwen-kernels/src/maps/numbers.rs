//! Numbers to feature maps and back, and means of them.

use std::arch::x86_64::*;

use super::{MapShape, STEP};
use crate::gemm::bf16_of;
use crate::threads::{SendPtr, parallel_for};

/// The first pixel of the first image.
pub(super) fn first(maps: *const f32, shape: &MapShape) -> SendPtr<u16> {
    SendPtr(maps.cast::<u16>().cast_mut().wrapping_add(shape.lead() * shape.depth()))
}

/// Sets what lies ahead of the images to zero, and the last row with what is left of it.
pub(super) fn clear_ends(maps: &mut [f32], shape: &MapShape) {
    let lead = shape.lead() * shape.depth() / 2;
    maps[..lead].fill(0.0);
    maps[shape.pixels() * shape.depth() / 2..][..lead].fill(0.0);
}

impl MapShape {
    /// How far behind a rounded number lies what rounding left of it; 0 where that is not stored.
    #[inline]
    pub(super) fn rest(&self) -> usize {
        if self.exact { self.channels } else { 0 }
    }
}

/// 32 numbers of a pixel, with their rest where there is one.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn read(from: *const u16, rest: usize) -> [__m512; 2] {
    // SAFETY: the caller's contract.
    let values = widened(unsafe { _mm512_loadu_si512(from.cast()) });
    if rest == 0 {
        return values;
    }
    // SAFETY: as above.
    let rest = widened(unsafe { _mm512_loadu_si512(from.add(rest).cast()) });
    [_mm512_add_ps(values[0], rest[0]), _mm512_add_ps(values[1], rest[1])]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widened(both: __m512i) -> [__m512; 2] {
    [_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64::<1>(both)]
        .map(|half| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half))))
}

/// Rounds 32 numbers of a pixel, and their rest where that is stored.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn write(to: *mut u16, values: [__m512; 2], rest: usize) {
    let both = bf16_of(values[0], values[1]);
    // SAFETY: the caller's contract.
    unsafe { _mm512_storeu_si512(to.cast(), both) };
    if rest > 0 {
        let [low, high] = widened(both);
        let left = bf16_of(_mm512_sub_ps(values[0], low), _mm512_sub_ps(values[1], high));
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(to.add(rest).cast(), left) };
    }
}

impl MapShape {
    /// Calls `f(line, memory)` on all threads for the lines of all images with their borders.
    pub(super) fn for_each_line(&self, f: impl Fn(usize, usize) + Sync) {
        let lines = self.batch * (self.height + 1);
        let line_len = self.pitch() * self.depth();
        let per_task = ((64 << 10) / line_len).max(1);
        parallel_for(lines.div_ceil(per_task), |task| {
            (task * per_task..lines.min((task + 1) * per_task)).for_each(|line| f(line, line * line_len));
        });
    }
}

/// Sets `len` numbers to zero.
pub(super) unsafe fn clear(to: *mut u16, len: usize) {
    // SAFETY: the caller's contract.
    unsafe { to.write_bytes(0, len) };
}

pub(super) fn store(x: &[f32], shape: &MapShape, maps: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn round(x: &[f32], shape: &MapShape, to: *mut u16) {
        for (pixel, x) in x.chunks_exact(shape.channels).enumerate() {
            let to = to.wrapping_add(pixel * shape.depth());
            for (i, values) in x.as_chunks::<STEP>().0.iter().enumerate() {
                // SAFETY: the caller's contract.
                unsafe {
                    let halves = [_mm512_loadu_ps(values.as_ptr()), _mm512_loadu_ps(values.as_ptr().add(16))];
                    write(to.add(i * STEP), halves, shape.rest());
                }
            }
        }
    }
    clear_ends(maps, shape);
    let (to, row_len) = (first(maps.as_ptr(), shape), shape.width * shape.channels);
    shape.for_each_line(|line, at| {
        let (image, row) = (line / (shape.height + 1), line % (shape.height + 1));
        let to = to.get().wrapping_add(at);
        // SAFETY: a line of the maps, which is this task's.
        unsafe {
            if row == shape.height {
                return clear(to, shape.pitch() * shape.depth());
            }
            round(&x[(image * shape.height + row) * row_len..][..row_len], shape, to);
            clear(to.add(shape.width * shape.depth()), shape.depth());
        }
    });
}

pub(super) fn load(maps: &[f32], shape: &MapShape, x: &mut [f32]) {
    #[target_feature(enable = "avx512f")]
    unsafe fn widen(from: *const u16, shape: &MapShape, x: &mut [f32]) {
        for (pixel, x) in x.chunks_exact_mut(shape.channels).enumerate() {
            let from = from.wrapping_add(pixel * shape.depth());
            for (i, values) in x.as_chunks_mut::<STEP>().0.iter_mut().enumerate() {
                // SAFETY: the caller's contract.
                unsafe {
                    let [low, high] = read(from.add(i * STEP), shape.rest());
                    _mm512_storeu_ps(values.as_mut_ptr(), low);
                    _mm512_storeu_ps(values.as_mut_ptr().add(16), high);
                }
            }
        }
    }
    let (from, row_len) = (first(maps.as_ptr(), shape), shape.width * shape.channels);
    let x = SendPtr(x.as_mut_ptr());
    shape.for_each_line(|line, at| {
        let (image, row) = (line / (shape.height + 1), line % (shape.height + 1));
        if row < shape.height {
            // SAFETY: a row of the numbers, which is this task's, and its line of the maps.
            unsafe {
                let x = x.slice((image * shape.height + row) * row_len, row_len);
                widen(from.get().wrapping_add(at), shape, x);
            }
        }
    });
}

pub(super) fn pool(x: &[f32], shape: &MapShape, pooled: &MapShape, y: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn means(x: *const u16, shape: &MapShape, width: usize, y: *mut u16) {
        let (quarter, depth, line) = (_mm512_set1_ps(0.25), shape.depth(), shape.pitch() * shape.depth());
        for pixel in 0..width {
            for channel in (0..shape.channels).step_by(STEP) {
                let at = 2 * pixel * depth + channel;
                // SAFETY: the caller's contract.
                unsafe {
                    let four = [at, at + depth, at + line, at + line + depth];
                    let [a, b, c, d] = four.map(|at| read(x.add(at), shape.rest()));
                    let mean = [0, 1].map(|half: usize| {
                        let upper = _mm512_add_ps(a[half], b[half]);
                        let lower = _mm512_add_ps(c[half], d[half]);
                        _mm512_mul_ps(quarter, _mm512_add_ps(upper, lower))
                    });
                    write(y.add(pixel * shape.channels + channel), mean, 0);
                }
            }
        }
    }
    clear_ends(y, pooled);
    let (x, y, depth) = (first(x.as_ptr(), shape), first(y.as_ptr(), pooled), pooled.depth());
    let line_len = shape.pitch() * shape.depth();
    pooled.for_each_line(|line, at| {
        let (image, row) = (line / (pooled.height + 1), line % (pooled.height + 1));
        let y = y.get().wrapping_add(at);
        // SAFETY: a line of the output, which is this task's, and two lines of the input.
        unsafe {
            if row == pooled.height {
                return clear(y, pooled.pitch() * depth);
            }
            let x = x.get().wrapping_add((image * (shape.height + 1) + 2 * row) * line_len);
            means(x, shape, pooled.width, y);
            clear(y.add(pooled.width * depth), depth);
        }
    });
}
