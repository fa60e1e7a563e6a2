//! How a product in units is cut into pieces, and how its sums become numbers again.

use std::marker::PhantomData;
use std::ops::Range;

use super::super::kernel::{Kernel, PANEL, Task, dispatch};
use super::super::pack::{Left, Panels, RowBlocks};
use super::super::product::{Stage, Target};
use super::super::{Epilogue, MatRef};
use super::convert;
use super::pack::{ReducedPanels, Reduction};
use crate::aligned::Scratch;
use crate::threads::{SendPtr, WORTH_SHARING, parallel_for, threads};

/// Most rows of a block of any instruction.
pub(super) const MAX_ROWS: usize = 32;

/// Sums on their way from the registers to memory: f32 of bf16 products, i32 of int8 products.
#[repr(align(64))]
pub(super) struct Sums(pub(super) [[u32; PANEL]; MAX_ROWS]);

/// How the rows of a block are turned into bytes: `round(x · factor) + zero`.
#[derive(Clone, Copy)]
pub(super) struct RowScale {
    pub(super) scale: f32,
    pub(super) factor: f32,
    pub(super) zero: f32,
}

impl RowScale {
    /// The scale of numbers between `low <= 0` and `high >= 0`.
    pub(super) fn new(low: f32, high: f32) -> Self {
        let range = high - low;
        let scale = if range > 0.0 && range.is_finite() { range / 255.0 } else { 1.0 };
        let factor = 1.0 / scale;
        Self { scale, factor, zero: (-low * factor).round_ties_even().clamp(0.0, 255.0) }
    }
}

/// An instruction that multiplies units, and the layout of the left operand that it wants.
pub(super) trait Dot {
    const REDUCTION: Reduction;
    /// Rows of a block, of at most [`MAX_ROWS`].
    const ROWS: usize;

    /// Rows that a block of `height` rows takes in packed storage.
    fn stored_rows(height: usize) -> usize;

    /// Cleans up after [`Dot::begin`]. (A guard and no closure, which would be compiled without the instruction set.)
    type Guard;

    /// Prepares the thread for blocks of `height` rows.
    ///
    /// # Safety
    /// The CPU has the instruction.
    unsafe fn begin(height: usize) -> Self::Guard;

    /// Packs numbers `from..from + len` of up to 16 rows that begin with row `first` of a block of `height` rows.
    /// `from` is a multiple of 16 units; what `len` lacks to such a multiple is filled up.
    ///
    /// # Safety
    /// Each row has `len` numbers, `out` holds the stored rows of the block, and the CPU has the instruction.
    unsafe fn pack(
        rows: &[*const f32],
        scales: &[RowScale],
        height: usize,
        first: usize,
        from: usize,
        len: usize,
        out: *mut u32,
    );

    /// Whether there is [`Dot::pack_columns`].
    const PACKS_COLUMNS: bool = false;

    /// As [`Dot::pack`] of sixteen units at most of `rows` rows that lie side by side in each column; `columns` are `stride`
    /// apart.
    ///
    /// # Safety
    /// As for [`Dot::pack`].
    unsafe fn pack_columns(
        _columns: *const f32,
        _stride: usize,
        _rows: usize,
        _height: usize,
        _first: usize,
        _from: usize,
        _len: usize,
        _out: *mut u32,
    ) {
        unreachable!("there is no such way");
    }

    /// `sums[height, width] = a · b` for `units` units of a packed block and of a panel of this width.
    ///
    /// # Safety
    /// Called while the guard of [`Dot::begin`] for this height lives, with operands of these sizes.
    unsafe fn multiply(
        height: usize,
        width: usize,
        units: usize,
        a: *const u32,
        b: *const u32,
        ahead: *const u32,
        sums: &mut Sums,
    );
}

/// Bytes of the left operand that a task keeps in the second-level cache.
const LEFT_BUDGET: usize = 1 << 20;

/// `c [rows, columns] = a · b`, then the epilogue, on all threads. Lengths have been checked.
pub(super) fn product<D: Dot>(
    a: &impl Left,
    rows: usize,
    b: ReducedPanels,
    c: &mut [f32],
    epilogue: &Epilogue,
) {
    let panels = Panels::count(b.columns);
    if rows == 0 || panels == 0 {
        return;
    }
    if rows * b.depth * b.columns < WORTH_SHARING {
        let c = Target { start: SendPtr(c.as_mut_ptr()), stride: b.columns };
        let dot = PhantomData;
        return dispatch(Multiply::<D, _> { a, rows: 0..rows, b, panels: 0..panels, c, epilogue, dot });
    }
    let row_bytes = 4 * D::REDUCTION.units(b.depth).max(1);
    let blocks = rows.div_ceil(D::ROWS);
    let blocks_per_task = (LEFT_BUDGET / (row_bytes * D::ROWS)).max(2);
    // A multiple of the threads, so that none waits for the last band of another.
    let bands = blocks.div_ceil(blocks_per_task).next_multiple_of(threads()).min(blocks.div_ceil(2));
    // Each group of columns packs the rows again, so there is more than one only where rows are few.
    let groups = threads().div_ceil(bands).min(panels);
    let c = Target { start: SendPtr(c.as_mut_ptr()), stride: b.columns };
    parallel_for(bands * groups, |task| {
        let (band, group) = (task % bands, task / bands);
        let part = |len: usize, index: usize, count: usize| len * index / count..len * (index + 1) / count;
        let (rows, panels) = (part(rows, band, bands), part(panels, group, groups));
        dispatch(Multiply::<D, _> { a, rows, b, panels, c, epilogue, dot: PhantomData });
    });
}

struct Multiply<'a, D, L> {
    a: &'a L,
    rows: Range<usize>,
    b: ReducedPanels<'a>,
    panels: Range<usize>,
    c: Target,
    epilogue: &'a Epilogue<'a>,
    dot: PhantomData<D>,
}

impl<D: Dot, L: Left> Task for Multiply<'_, D, L> {
    #[inline(always)]
    unsafe fn run<K: Kernel>(self) {
        // SAFETY: the same contract; `D` was chosen for this CPU.
        unsafe { multiply::<K, D>(self.a, self.rows, self.b, self.panels, self.c, self.epilogue) }
    }
}

/// `c[rows, columns of panels] = a · b` with the epilogue, on this thread.
///
/// # Safety
/// The CPU has the instructions of `K` and `D`; rows and panels lie within the operands and `c`, and no other thread
/// uses that part of `c`.
#[inline(always)]
pub(super) unsafe fn multiply<K: Kernel, D: Dot>(
    a: &impl Left,
    rows: Range<usize>,
    b: ReducedPanels,
    panels: Range<usize>,
    c: Target,
    epilogue: &Epilogue,
) {
    if rows.is_empty() || panels.is_empty() {
        return;
    }
    let blocks = RowBlocks::new(rows, D::ROWS);
    let height = blocks.height();
    let units = D::REDUCTION.units(b.depth);
    let block_len = D::stored_rows(height) * units;
    let mut packed = Scratch::take(blocks.count * block_len);
    let packed = packed.as_bits_mut();
    let mut scales = vec![
        RowScale::new(0.0, 0.0);
        if D::REDUCTION == Reduction::Int8 { blocks.count * MAX_ROWS } else { 0 }
    ];
    match a.columns().filter(|_| D::PACKS_COLUMNS && block_len > 0) {
        // SAFETY: the rows lie within `a`, says the caller.
        Some(matrix) => unsafe { pack_columns::<D>(&matrix, &blocks, height, b.depth, packed) },
        None => {
            for (block, out) in packed.chunks_exact_mut(block_len.max(1)).enumerate() {
                let scales = scales.get_mut(block * MAX_ROWS..(block + 1) * MAX_ROWS).unwrap_or_default();
                // SAFETY: as above.
                unsafe { pack_block::<K, D>(a, blocks.get(block), height, b.depth, scales, out) };
            }
        }
    }
    let stage = Stage { accumulate: epilogue.accumulate, finish: true, epilogue };
    let mut sums = Sums([[0; PANEL]; MAX_ROWS]);
    // SAFETY: the caller has checked the CPU.
    let _guard = unsafe { D::begin(height) };
    for index in panels.clone() {
        let panel = b.panel(index);
        let next = b.panel((index + 1).min(panels.end - 1)).as_ptr();
        let (width, first) = (Panels::width(b.columns, index), index * PANEL);
        let columns = first..b.columns.min(first + PANEL);
        for block in 0..blocks.count {
            let a = &packed[block * block_len..];
            let ahead = next.wrapping_add(block * panel.len() / blocks.count);
            let rows = blocks.get(block);
            stage.fetch::<K>(rows.clone(), columns.clone(), c);
            // SAFETY: the operands have these sizes, and this part of the target is the caller's.
            unsafe {
                D::multiply(height, width, units, a.as_ptr(), panel.as_ptr(), ahead, &mut sums);
                if D::REDUCTION == Reduction::Int8 {
                    sums.scale(&scales[block * MAX_ROWS..][..rows.len()], b.quantisation(index));
                }
                stage.store::<K>(sums.as_f32(), rows, columns.clone(), c);
            }
        }
    }
}

impl Sums {
    /// Turns sums of bytes into the numbers that they stand for.
    ///
    /// # Safety
    /// The CPU has the instruction set of the kernels of int8.
    #[inline(always)]
    unsafe fn scale(&mut self, rows: &[RowScale], columns: (&[f32; PANEL], &[f32; PANEL])) {
        for (sums, row) in self.0.iter_mut().zip(rows) {
            // SAFETY: the same contract.
            unsafe { convert::scale(sums, row, columns) };
        }
    }

    /// The sums as f32, which they are after bf16 products and [`Sums::scale`].
    #[inline(always)]
    fn as_f32(&self) -> &[[f32; PANEL]; MAX_ROWS] {
        // SAFETY: u32 and f32 have one size and alignment, and every bit pattern is a number of both.
        unsafe { &*(&raw const self.0).cast() }
    }
}

/// Rows that one call of [`Dot::pack`] takes.
const GROUP: usize = 16;
/// Numbers of a row that are packed at a time, where rows have to be copied together first.
const DEPTH: usize = 256;

/// Packs the rows of a block. Rows that are stored and do not exist are copies of the last.
#[inline(always)]
unsafe fn pack_block<K: Kernel, D: Dot>(
    a: &impl Left,
    rows: Range<usize>,
    height: usize,
    depth: usize,
    scales: &mut [RowScale],
    out: &mut [u32],
) {
    let whole = D::REDUCTION == Reduction::Int8 || a.has_whole_rows();
    let piece = if whole { depth.max(1) } else { DEPTH };
    let mut scratch = Scratch::take(if a.has_whole_rows() { 0 } else { GROUP * piece.min(depth) });
    for first in (0..D::stored_rows(height)).step_by(GROUP) {
        let stored = GROUP.min(D::stored_rows(height) - first);
        let start = (rows.start + first).min(rows.end - 1);
        let group = start..(start + stored).min(rows.end);
        for from in (0..depth).step_by(piece) {
            let len = piece.min(depth - from);
            // SAFETY: rows and depth lie within the operand, and the scratch holds them.
            unsafe {
                let mut pointers = a.rows::<K>(group.clone(), from..from + len, &mut scratch);
                let last = pointers[group.len() - 1];
                pointers[group.len()..].fill(last);
                let mut row_scales = [RowScale::new(0.0, 0.0); GROUP];
                if D::REDUCTION == Reduction::Int8 {
                    for (i, scale) in row_scales[..stored].iter_mut().enumerate() {
                        let (low, high) = convert::range(pointers[i], len);
                        *scale = RowScale::new(low, high);
                        scales[first + i] = *scale;
                    }
                }
                D::pack(
                    &pointers[..stored],
                    &row_scales[..stored],
                    height,
                    first,
                    from,
                    len,
                    out.as_mut_ptr(),
                );
            }
        }
    }
}

/// Packs all blocks of a matrix whose columns are contiguous, a few columns of all blocks at a time, so that memory is
/// read along its columns.
#[inline(always)]
unsafe fn pack_columns<D: Dot>(a: &MatRef, blocks: &RowBlocks, height: usize, depth: usize, out: &mut [u32]) {
    let block_len = D::stored_rows(height) * D::REDUCTION.units(depth);
    let step = 16 * D::REDUCTION.unit();
    for from in (0..depth).step_by(step) {
        for (block, out) in out.chunks_exact_mut(block_len).enumerate() {
            let rows = blocks.get(block);
            for first in (0..rows.len()).step_by(GROUP) {
                let columns = a.data.as_ptr().wrapping_add(rows.start + first + from * a.col_stride);
                let (count, len) = (GROUP.min(rows.len() - first), step.min(depth - from));
                let out = out.as_mut_ptr();
                // SAFETY: rows and depth lie within the operand, says the caller.
                unsafe { D::pack_columns(columns, a.col_stride, count, height, first, from, len, out) };
            }
        }
    }
}
