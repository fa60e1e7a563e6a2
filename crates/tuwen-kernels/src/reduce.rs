//! Sums over everything, over rows, and over a middle axis.
//!
//! Memory is the limit. Sums over rows add whole rows, which vectorises whatever the width; they are cut into parts by the
//! sizes alone and the parts added in order, so that the number of threads changes nothing.

use std::ops::Range;

use crate::aligned::Scratch;
use crate::math::sum_of;
use crate::threads::{CHUNK, SendPtr, parallel_chunks_mut, parallel_for_work};

/// Long reductions are cut into at most this many parts, whatever the number of threads, so that their results do
/// not depend on it.
const PARTS: usize = 16;

/// Sums of a chunk are f32 in blocks of this many elements, and f64 from there.
const BLOCK: usize = 1024;

multiversion! {
    fn sum_chunk(x: &[f32]) -> f64 {
        x.chunks(BLOCK).map(|x| f64::from(sum_of([x], |[x]| x))).sum()
    }

    fn dot_chunk(a: &[f32], b: &[f32]) -> f64 {
        a.chunks(BLOCK).zip(b.chunks(BLOCK)).map(|(a, b)| f64::from(sum_of([a, b], |[a, b]| a * b))).sum()
    }

    /// `sums += x`, one row.
    pub(crate) fn add_row(x: &[f32], sums: &mut [f32]) {
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
    }
}

/// `Σ x`.
pub fn sum(x: &[f32]) -> f64 {
    by_chunks(x.len(), |range| sum_chunk(&x[range]))
}

/// `Σ x²`.
pub fn sum_squares(x: &[f32]) -> f64 {
    dot(x, x)
}

/// `Σ a · b`.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "dot: a and b differ in length");
    by_chunks(a.len(), |range| dot_chunk(&a[range.clone()], &b[range]))
}

fn by_chunks(len: usize, partial: impl Fn(Range<usize>) -> f64 + Sync) -> f64 {
    let mut partials = vec![0.0; len.div_ceil(CHUNK)];
    parallel_chunks_mut(&mut partials, 1, |i, out| out[0] = partial(i * CHUNK..len.min((i + 1) * CHUNK)));
    partials.iter().sum()
}

/// The sum of each column of `x [rows, cols]`.
pub fn column_sums(x: &[f32], cols: usize, out: &mut [f32]) {
    assert_eq!(out.len(), cols, "column_sums: one sum per column");
    if cols == 0 {
        return;
    }
    assert!(x.len().is_multiple_of(cols), "column_sums: {} elements are not rows of {cols}", x.len());
    sum_rows_by(x.len() / cols, cols, out, |rows, sums| {
        x[rows.start * cols..rows.end * cols].chunks_exact(cols).for_each(|row| add_row(row, sums));
    });
}

/// Sums over rows: `add(rows, sums)` adds the contribution of a range of rows to `sums [width]`, and `out` receives
/// the total. The ranges depend on the sizes only.
pub(crate) fn sum_rows_by(
    rows: usize,
    width: usize,
    out: &mut [f32],
    add: impl Fn(Range<usize>, &mut [f32]) + Sync,
) {
    out.fill(0.0);
    let parts = (rows * width / CHUNK).clamp(1, PARTS).min(rows.max(1));
    if parts == 1 {
        return add(0..rows, out);
    }
    let mut partials = Scratch::take(parts * width);
    parallel_chunks_mut(&mut partials, width, |part, sums| {
        sums.fill(0.0);
        add(rows * part / parts..rows * (part + 1) / parts, sums);
    });
    partials.chunks_exact(width).for_each(|sums| add_row(sums, out));
}

/// The mean over the middle axis of `x [outer, len, inner]`, as `out [outer, inner]`. A mean of nothing is 0.
pub fn mean_axis(x: &[f32], outer: usize, len: usize, inner: usize, out: &mut [f32]) {
    assert_eq!(x.len(), outer * len * inner, "mean_axis: x is not [{outer}, {len}, {inner}]");
    assert_eq!(out.len(), outer * inner, "mean_axis: out is not [{outer}, {inner}]");
    let factor = if len == 0 { 0.0 } else { 1.0 / len as f32 };
    let out = SendPtr(out.as_mut_ptr());
    parallel_for_work(outer, x.len(), CHUNK, |i| {
        // SAFETY: each task has its own row of `out`, which is [outer, inner].
        let out = unsafe { out.slice(i * inner, inner) };
        let x = &x[i * len * inner..][..len * inner];
        if inner == 1 {
            out[0] = sum_chunk(x) as f32 * factor;
        } else {
            out.fill(0.0);
            x.chunks_exact(inner.max(1)).for_each(|row| add_row(row, out));
            out.iter_mut().for_each(|v| *v *= factor);
        }
    });
}
