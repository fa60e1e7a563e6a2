//! NEON: a register tile of 6 rows and 16 columns, 24 of the 32 registers.
//!
//! 24 chains of multiply-adds hide their latency on four units; the numbers of the left operand are elements of a register
//! that the instruction takes by index, so that 24 multiply-adds need 4 loads of vectors and 3 of pairs.

use std::arch::aarch64::*;

use super::kernel::{Kernel, Tile, with_const_rows};

/// NEON, which every aarch64 CPU has.
pub(super) struct Neon;

/// Columns of the register tile: a cache line of the panel for each step of the depth.
const COLUMNS: usize = 16;
/// f32 in a register.
const LANES: usize = 4;

impl Kernel for Neon {
    const ROWS: usize = 6;

    type Vector = float32x4_t;
    const LANES: usize = LANES;

    #[inline(always)]
    unsafe fn load(from: *const f32, count: usize) -> float32x4_t {
        // SAFETY: the same contract.
        unsafe { load(from, count) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, count: usize, values: float32x4_t) {
        // SAFETY: the same contract.
        unsafe { store(to, count, values) }
    }

    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: every aarch64 CPU has the instruction.
        unsafe { vaddq_f32(a, b) }
    }

    unsafe fn tile(
        rows: usize,
        width: usize,
        depth: usize,
        a: *const f32,
        b: *const f32,
        _ahead: *const f32,
        tile: &mut Tile,
    ) {
        for column in (0..width).step_by(COLUMNS) {
            // SAFETY: the trait's contract, for 16 columns of the panel.
            unsafe {
                let b = b.add(column);
                with_const_rows!(rows, [1 2 3 4 5 6], multiply::<_, 4>(depth, a, b, width, column, tile));
            }
        }
    }

    #[inline]
    unsafe fn interleave(
        sources: &[*const f32],
        depth: usize,
        out: *mut f32,
        out_stride: usize,
        out_width: usize,
    ) {
        for first in (0..out_width).step_by(LANES) {
            let sources = sources.get(first..sources.len().min(first + LANES)).unwrap_or_default();
            // SAFETY: the same contract, for 4 of the 16 columns.
            unsafe { interleave(sources, depth, out.add(first), out_stride, (out_width - first).min(LANES)) }
        }
    }

    #[inline]
    unsafe fn copy(
        source: *const f32,
        stride: usize,
        width: usize,
        depth: usize,
        out: *mut f32,
        out_stride: usize,
        out_width: usize,
    ) {
        for k in 0..depth {
            // SAFETY: rows of the source have `width` elements, rows of the target `out_width`.
            unsafe {
                let (source, out) = (source.wrapping_add(k * stride), out.add(k * out_stride));
                for first in (0..out_width).step_by(LANES) {
                    let values = load(source.wrapping_add(first), width.saturating_sub(first));
                    store(out.add(first), out_width - first, values);
                }
            }
        }
    }
}

unsafe fn multiply<const ROWS: usize, const VECTORS: usize>(
    depth: usize,
    mut a: *const f32,
    mut b: *const f32,
    b_stride: usize,
    column: usize,
    tile: &mut Tile,
) {
    // SAFETY: `a` is [depth, ROWS]; the rows of `b` have 4 · VECTORS elements from here; `column` is 0 or 16 in a row
    // of 32.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); VECTORS]; ROWS];
        for _ in 0..depth {
            let mut columns = [vdupq_n_f32(0.0); VECTORS];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = vld1q_f32(b.add(LANES * v));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = *a.add(r);
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = vfmaq_n_f32(*sum, column, x);
                }
            }
            a = a.add(ROWS);
            b = b.wrapping_add(b_stride);
        }
        // By reference: an iterator by value would take the sums out of their registers.
        for (row, sums) in tile.0.iter_mut().zip(&sums) {
            for (v, sum) in sums.iter().enumerate() {
                vst1q_f32(row.as_mut_ptr().add(column + LANES * v), *sum);
            }
        }
    }
}

/// The first `len` elements, at most 4, then zeros.
///
/// # Safety
/// So many elements can be read.
#[inline(always)]
unsafe fn load(source: *const f32, len: usize) -> float32x4_t {
    let mut values = [0.0; LANES];
    // SAFETY: 4 elements are there, or as many as are copied.
    unsafe {
        if len >= LANES {
            return vld1q_f32(source);
        }
        for (i, value) in values.iter_mut().enumerate().take(len) {
            *value = *source.add(i);
        }
        vld1q_f32(values.as_ptr())
    }
}

/// Stores the first `len` elements, at most 4.
///
/// # Safety
/// So many elements can be written.
#[inline(always)]
unsafe fn store(out: *mut f32, len: usize, vector: float32x4_t) {
    let mut values = [0.0; LANES];
    // SAFETY: 4 elements are there, or as many as are copied.
    unsafe {
        if len >= LANES {
            return vst1q_f32(out, vector);
        }
        vst1q_f32(values.as_mut_ptr(), vector);
        for (i, value) in values.iter().enumerate().take(len) {
            *out.add(i) = *value;
        }
    }
}

/// At most 4 sources, to at most 4 columns.
unsafe fn interleave(
    sources: &[*const f32],
    depth: usize,
    out: *mut f32,
    out_stride: usize,
    out_width: usize,
) {
    for start in (0..depth).step_by(LANES) {
        // SAFETY: each source has `depth` elements, each row of the target `out_width`.
        unsafe {
            let mut block = [vdupq_n_f32(0.0); LANES];
            for (vector, source) in block.iter_mut().zip(sources) {
                *vector = load(source.add(start), depth - start);
            }
            for (k, vector) in transpose(block).into_iter().enumerate().take(depth - start) {
                store(out.add((start + k) * out_stride), out_width, vector);
            }
        }
    }
}

/// Transposes a block of 4 by 4: elements in pairs of rows, then pairs of elements.
#[inline(always)]
fn transpose([a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: every aarch64 CPU has NEON.
    unsafe {
        let pair = |x| vreinterpretq_f64_f32(x);
        let (even, odd) = (
            [pair(vtrn1q_f32(a, b)), pair(vtrn1q_f32(c, d))],
            [pair(vtrn2q_f32(a, b)), pair(vtrn2q_f32(c, d))],
        );
        [
            vreinterpretq_f32_f64(vtrn1q_f64(even[0], even[1])),
            vreinterpretq_f32_f64(vtrn1q_f64(odd[0], odd[1])),
            vreinterpretq_f32_f64(vtrn2q_f64(even[0], even[1])),
            vreinterpretq_f32_f64(vtrn2q_f64(odd[0], odd[1])),
        ]
    }
}
