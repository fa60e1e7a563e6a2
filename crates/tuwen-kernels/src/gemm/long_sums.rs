//! Products of long sums, such as the gradients of weights, which sum over all rows of a batch.
//!
//! Each operand is used once, so that packing it as a whole would write it to memory and read it again. A task takes
//! some columns of the product and walks along the depth in pieces: both pieces are packed, multiplied and forgotten, and
//! what grows, its part of the product, stays in the second-level cache with them. Where there are fewer parts than
//! threads, the depth is cut too, and partial products are added in order.

use std::ops::Range;

use super::MatRef;
use super::kernel::{Kernel, PANEL};
use super::own::OwnProduct;
use super::pack::{Panels, Right};
use super::product::{Target, pieces};
use super::reduced::{OwnTask, dispatch_in};
use crate::aligned::Scratch;
use crate::precision::Precision;
use crate::reduce::add_row;
use crate::threads::{CHUNK, SendPtr, WORTH_SHARING, parallel_chunks_mut, parallel_for_work, threads};

/// Numbers of the product that a task should have, so that they stay in the cache.
const OWN: usize = 1 << 17;
/// The rows are packed again for each task, so that it should have so many columns.
const COLUMNS: usize = 256;

/// `c [rows, columns] = a [rows, depth] · b [depth, columns]`.
pub(crate) fn product_of_long_sums(
    precision: Precision,
    a: &MatRef,
    b: &impl Right,
    columns: usize,
    c: &mut [f32],
) {
    let (rows, depth, panels) = (a.rows, a.cols, Panels::count(columns));
    if rows * panels == 0 {
        return;
    }
    let wanted = (OWN / rows).max(COLUMNS).div_ceil(PANEL);
    let groups = panels.div_ceil(wanted);
    let parts = if groups % threads() == 0 { 1 } else { threads().min(depth.div_ceil(COLUMNS)).max(1) };
    let len = rows * columns;
    let mut partials = Scratch::take(if parts == 1 { 0 } else { parts * len });
    let start = SendPtr(if parts == 1 { c.as_mut_ptr() } else { partials.as_mut_ptr() });
    parallel_for_work(groups * parts, rows * depth * columns, WORTH_SHARING, |task| {
        let (part, group) = (task / groups, task % groups);
        let first = panels * group / groups * PANEL;
        let columns_of_task = first..columns.min(panels * (group + 1) / groups * PANEL);
        let depth = depth * part / parts..depth * (part + 1) / parts;
        let c = Target { start: SendPtr(start.get().wrapping_add(part * len + first)), stride: columns };
        dispatch_in(precision, LongSum { a, b, depth, columns: columns_of_task, c });
    });
    if parts > 1 {
        parallel_chunks_mut(c, CHUNK, |i, c| {
            let (start, len_of_chunk) = (i * CHUNK, c.len());
            let mut parts = partials.chunks_exact(len).map(|part| &part[start..][..len_of_chunk]);
            if let Some(first) = parts.next() {
                c.copy_from_slice(first);
            }
            parts.for_each(|part| add_row(part, c));
        });
    }
}

/// Some columns of a product, summed over some of the depth.
struct LongSum<'a, R> {
    a: &'a MatRef<'a>,
    b: &'a R,
    depth: Range<usize>,
    columns: Range<usize>,
    c: Target,
}

impl<R: Right> OwnTask for LongSum<'_, R> {
    #[inline(always)]
    unsafe fn run<K: Kernel, P: OwnProduct>(self) {
        let Self { a, b, depth, columns, c } = self;
        for piece in pieces(depth.len(), P::DEPTH) {
            let rows = depth.start + piece.start..depth.start + piece.end;
            let a = MatRef { data: &a.data[rows.start * a.col_stride..], cols: rows.len(), ..*a };
            // SAFETY: rows and columns lie within the operands, and this part of the target is this task's.
            unsafe {
                let packed = P::pack_part::<K>(b, rows, columns.clone());
                P::accumulate::<K>(&a, &packed, c, piece.start > 0);
            }
        }
    }
}
