//! How a product is cut into pieces for threads and caches, and how a finished tile is stored.

use std::ops::Range;

use super::Epilogue;
use super::kernel::{Kernel, MAX_LANES, MAX_ROWS, PANEL, Task, Tile, dispatch};
use super::pack::{Left, PanelSource, Panels, Right, RowBlocks};
use crate::activation::{Activation, activate_in_place};
use crate::aligned::Scratch;
use crate::threads::{CHUNK, SendPtr, WORTH_SHARING, parallel_chunks_mut, parallel_for, threads};

/// Length of the sums that are computed in one go: a panel of this depth (96 KiB) and the rows of a task fit into the
/// second-level cache together.
const DEPTH: usize = 768;

/// Packed elements of the left operand that a task keeps there.
const LEFT_BUDGET: usize = 8 * MAX_ROWS * DEPTH;

/// Where a product goes: element (0, 0) and the distance of its rows.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) start: SendPtr<f32>,
    pub(crate) stride: usize,
}

/// Cuts `depth` into nearly equal pieces of at most `limit`; a depth of 0 is one empty piece.
pub(super) fn pieces(depth: usize, limit: usize) -> impl Iterator<Item = Range<usize>> {
    let count = depth.div_ceil(limit).max(1);
    (0..count).map(move |i| depth * i / count..depth * (i + 1) / count)
}

/// `c[rows, columns of panels] = a · b` with the epilogue, on this thread.
///
/// # Safety
/// The CPU has the instruction set of `K`; rows and panels lie within the operands and `c`, and no other thread uses
/// that part of `c`.
#[inline(always)]
pub(crate) unsafe fn multiply<K: Kernel, B: PanelSource>(
    a: &impl Left,
    rows: Range<usize>,
    b: B,
    panels: Range<usize>,
    c: Target,
    epilogue: &Epilogue,
) {
    if rows.is_empty() {
        return;
    }
    let blocks = RowBlocks::new(rows.clone(), K::ROWS);
    let longest = b.depth().min(DEPTH);
    let mut packed = Scratch::take(rows.len() * longest);
    let mut unpacked = B::scratch(longest);
    let mut tile = Tile([[0.0; PANEL]; MAX_ROWS]);
    for depth in pieces(b.depth(), DEPTH) {
        // SAFETY: rows and depth lie within `a`, says the caller.
        unsafe { a.pack::<K>(&blocks, depth.clone(), &mut packed) };
        let stage = Stage {
            accumulate: epilogue.accumulate || depth.start > 0,
            finish: depth.end == b.depth(),
            epilogue,
        };
        for index in panels.clone() {
            let panel = b.panel(index, depth.clone(), &mut unpacked);
            let (width, first) = (Panels::width(b.columns(), index), index * PANEL);
            let columns = first..b.columns().min(first + PANEL);
            let ahead = b.ahead(index + 1, &panels, depth.clone());
            for block in 0..blocks.count {
                let rows = blocks.get(block);
                let a = &packed[blocks.offset(block, depth.len())..];
                let ahead = ahead.wrapping_add(block * panel.len() / blocks.count);
                stage.fetch::<K>(rows.clone(), columns.clone(), c);
                // SAFETY: the packed block has depth times rows elements, the panel depth times width.
                unsafe {
                    K::tile(rows.len(), width, depth.len(), a.as_ptr(), panel.as_ptr(), ahead, &mut tile);
                    stage.store::<K>(&tile.0, rows, columns.clone(), c);
                }
            }
        }
    }
}

/// What a piece of the depth has to do with its tiles.
pub(crate) struct Stage<'a> {
    pub(crate) accumulate: bool,
    pub(crate) finish: bool,
    pub(crate) epilogue: &'a Epilogue<'a>,
}

impl Stage<'_> {
    /// Asks for the lines of the target and of the residual at `rows` and `columns`, so that they arrive while the tile is
    /// computed: a tile is spread over as many pages as it has rows, which no hardware prefetcher follows.
    #[inline(always)]
    pub(super) fn fetch<K: Kernel>(&self, rows: Range<usize>, columns: Range<usize>, c: Target) {
        for row in rows {
            let at = row * c.stride + columns.start;
            K::prefetch_for_writing(c.start.get().wrapping_add(at));
            K::prefetch_for_writing(c.start.get().wrapping_add(at + columns.len() - 1));
            if let Some(residual) = self.epilogue.residual.filter(|_| self.finish) {
                K::prefetch(residual.as_ptr().wrapping_add(at));
                K::prefetch(residual.as_ptr().wrapping_add(at + columns.len() - 1));
            }
        }
    }

    /// Stores a tile at `rows` and `columns` of the target.
    #[inline(always)]
    pub(super) unsafe fn store<K: Kernel>(
        &self,
        tile: &[[f32; PANEL]],
        rows: Range<usize>,
        columns: Range<usize>,
        c: Target,
    ) {
        for (values, row) in tile.iter().zip(rows) {
            for first in (0..columns.len()).step_by(K::LANES) {
                let (column, count) = (columns.start + first, K::LANES.min(columns.len() - first));
                // SAFETY: these columns of the row lie within the tile and the target, and the epilogue was checked.
                unsafe {
                    let values = K::load(values.as_ptr().add(first), K::LANES);
                    self.store_vector::<K>(values, count, row * c.stride + column, column, c);
                }
            }
        }
    }

    /// Stores values of a row from column `first` of the target.
    ///
    /// # Safety
    /// The CPU has the instruction set of `K`; these columns of the row lie within the target, and the epilogue was checked.
    #[inline(always)]
    pub(crate) unsafe fn store_row<K: Kernel>(&self, values: &[f32], row: usize, first: usize, c: Target) {
        for at in (0..values.len()).step_by(K::LANES) {
            let (column, count) = (first + at, K::LANES.min(values.len() - at));
            // SAFETY: the caller's contract.
            unsafe {
                let values = K::load(values.as_ptr().add(at), count);
                self.store_vector::<K>(values, count, row * c.stride + column, column, c);
            }
        }
    }

    /// Finishes `count` values from `column`, which go to element `at` of the target. Vectors are written out, because LLVM
    /// makes single numbers of loops that are as short as a tile is wide.
    #[inline(always)]
    unsafe fn store_vector<K: Kernel>(
        &self,
        mut values: K::Vector,
        count: usize,
        at: usize,
        column: usize,
        c: Target,
    ) {
        let c = c.start.get().wrapping_add(at);
        // SAFETY: the caller's contract.
        unsafe {
            if self.accumulate {
                values = K::add(values, K::load(c, count));
            }
            if self.finish {
                let &Epilogue { bias, activation, residual, residual_first, .. } = self.epilogue;
                if let Some(bias) = bias {
                    values = K::add(values, K::load(bias.as_ptr().add(column), count));
                }
                let residual = residual.map(|residual| K::load(residual.as_ptr().add(at), count));
                if let (Some(residual), true) = (residual, residual_first) {
                    values = K::add(values, residual);
                }
                if activation != Activation::Identity {
                    let mut lanes = [0.0; MAX_LANES];
                    K::store(lanes.as_mut_ptr(), K::LANES, values);
                    activate_in_place(activation, &mut lanes[..K::LANES]);
                    values = K::load(lanes.as_ptr(), K::LANES);
                }
                if let (Some(residual), false) = (residual, residual_first) {
                    values = K::add(values, residual);
                }
            }
            K::store(c, count, values);
        }
    }
}

/// A [`multiply`] as a task.
struct Multiply<'a, L, B> {
    a: &'a L,
    rows: Range<usize>,
    b: B,
    panels: Range<usize>,
    c: Target,
    epilogue: &'a Epilogue<'a>,
}

impl<L: Left, B: PanelSource> Task for Multiply<'_, L, B> {
    #[inline(always)]
    unsafe fn run<K: Kernel>(self) {
        // SAFETY: the same contract.
        unsafe { multiply::<K, B>(self.a, self.rows, self.b, self.panels, self.c, self.epilogue) }
    }
}

/// `c [rows, columns] = a · b`, then the epilogue, on all threads. Lengths have been checked.
pub(crate) fn product(a: &impl Left, rows: usize, b: impl PanelSource, c: &mut [f32], epilogue: &Epilogue) {
    let panels = Panels::count(b.columns());
    if rows == 0 || panels == 0 {
        return;
    }
    if rows * b.depth() * b.columns() < WORTH_SHARING {
        let c = Target { start: SendPtr(c.as_mut_ptr()), stride: b.columns() };
        return dispatch(Multiply { a, rows: 0..rows, b, panels: 0..panels, c, epilogue });
    }
    let blocks = rows.div_ceil(MAX_ROWS);
    // Short sums leave room for more rows in the cache, but every thread should get some.
    let blocks_per_task =
        (LEFT_BUDGET / (MAX_ROWS * b.depth().clamp(1, DEPTH))).min(blocks.div_ceil(8 * threads())).max(8);
    let bands = blocks.div_ceil(blocks_per_task);
    // Few rows are cut along the columns, because a weight is more to read than they are to pack again. Else bands are a
    // multiple of the threads, so that none waits for the last band of another.
    let (bands, groups) = match bands {
        1 => (1, threads().min(panels)),
        _ => (bands.next_multiple_of(threads()).min(blocks), 1),
    };
    let c = Target { start: SendPtr(c.as_mut_ptr()), stride: b.columns() };
    parallel_for(bands * groups, |task| {
        let (band, group) = (task % bands, task / bands);
        let part = |len: usize, index: usize, count: usize| len * index / count..len * (index + 1) / count;
        let rows = part(rows, band, bands);
        let panels = part(panels, group, groups);
        dispatch(Multiply { a, rows, b, panels, c, epilogue });
    });
}

/// Packs all of `b [depth, columns]` on all threads.
pub(crate) fn pack_all(b: &impl Right, depth: usize, columns: usize, out: &mut [f32]) {
    struct Pack<'a, R> {
        b: &'a R,
        depth: usize,
        panels: Range<usize>,
        out: &'a mut [f32],
    }
    impl<R: Right> Task for Pack<'_, R> {
        #[inline(always)]
        unsafe fn run<K: Kernel>(self) {
            // SAFETY: the panels are those of the operand.
            unsafe { self.b.pack::<K>(0..self.depth, self.panels, self.out) }
        }
    }
    if depth == 0 {
        return;
    }
    let count = Panels::count(columns);
    let per_task = (CHUNK / (PANEL * depth)).max(count.div_ceil(4 * threads())).max(2);
    parallel_chunks_mut(out, per_task * PANEL * depth, |i, out| {
        dispatch(Pack { b, depth, panels: i * per_task..count.min((i + 1) * per_task), out });
    });
}
