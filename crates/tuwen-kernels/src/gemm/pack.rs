//! Operands, and the order in which the kernels read them: blocks of rows of the left one, panels of columns of the
//! right one.

use std::ops::Range;

use super::MatRef;
use super::kernel::{Kernel, MAX_ROWS, NARROW, PANEL};
use crate::aligned::Scratch;

/// A right operand `[depth, columns]` cut into panels of 32 columns; the last may have 16. A panel is stored as
/// `[depth, 32]` (or 16), filled up with zeros.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) depth: usize,
    pub(crate) columns: usize,
}

impl Panels<'_> {
    /// Number of panels of so many columns.
    pub(crate) fn count(columns: usize) -> usize {
        columns.div_ceil(PANEL)
    }

    /// Stored columns of panel `index`.
    pub(crate) fn width(columns: usize, index: usize) -> usize {
        if columns - index * PANEL <= NARROW { NARROW } else { PANEL }
    }

    /// Stored columns of the given panels: the length of their storage per unit of depth.
    pub(crate) fn stored(columns: usize, panels: Range<usize>) -> usize {
        let full = panels.len() * PANEL;
        if panels.end == Self::count(columns) && !panels.is_empty() {
            full - PANEL + Self::width(columns, panels.end - 1)
        } else {
            full
        }
    }
}

/// A right operand in panels, which are read as f32 whatever they are stored as.
pub(crate) trait PanelSource: Copy + Sync {
    /// Length of the sums.
    fn depth(&self) -> usize;

    /// Columns of the product.
    fn columns(&self) -> usize;

    /// Working memory for `depth` rows of a panel, where that needs any.
    fn scratch(depth: usize) -> Option<Scratch>;

    /// Where what is multiplied after panel `index - 1` will be read from: rows `depth` of panel `index`, or where there is
    /// no such panel, of the first.
    fn ahead(&self, index: usize, panels: &Range<usize>, depth: Range<usize>) -> *const f32 {
        // After the last panel comes the next piece of the depth.
        let (index, row) = if index < panels.end { (index, depth.start) } else { (panels.start, depth.end) };
        self.address(index, row)
    }

    /// Where row `row` of panel `index` is stored, as a hint: it need not exist.
    fn address(&self, index: usize, row: usize) -> *const f32;

    /// The rows `depth` of panel `index`.
    fn panel<'s>(&'s self, index: usize, depth: Range<usize>, scratch: &'s mut Option<Scratch>) -> &'s [f32];
}

impl PanelSource for Panels<'_> {
    fn depth(&self) -> usize {
        self.depth
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn scratch(_depth: usize) -> Option<Scratch> {
        None
    }

    #[inline(always)]
    fn address(&self, index: usize, row: usize) -> *const f32 {
        let start = index * PANEL * self.depth + row * Self::width(self.columns, index);
        self.data.as_ptr().wrapping_add(start)
    }

    #[inline(always)]
    fn panel<'s>(&'s self, index: usize, depth: Range<usize>, _: &'s mut Option<Scratch>) -> &'s [f32] {
        let width = Self::width(self.columns, index);
        &self.data[index * PANEL * self.depth..][depth.start * width..depth.end * width]
    }
}

/// A right operand packed within a task, for that task.
pub(crate) struct OwnPanels {
    data: Scratch,
    depth: usize,
    columns: usize,
}

impl OwnPanels {
    /// Packs rows `depth` of columns `columns` of `b`, of which the first is that of a panel, on this thread.
    ///
    /// # Safety
    /// The CPU has the instruction set of `K`; rows and columns lie within `b`.
    #[inline(always)]
    pub(crate) unsafe fn pack<K: Kernel>(b: &impl Right, depth: Range<usize>, columns: Range<usize>) -> Self {
        let panels = columns.start / PANEL..Panels::count(columns.end);
        let (rows, columns) = (depth.len(), columns.len());
        let mut data = Scratch::take(Panels::stored(columns, 0..panels.len()) * rows);
        // SAFETY: the caller's contract.
        unsafe { b.pack::<K>(depth, panels, &mut data) };
        Self { data, depth: rows, columns }
    }

    pub(crate) fn view(&self) -> Panels<'_> {
        Panels { data: &self.data, depth: self.depth, columns: self.columns }
    }
}

/// A range of rows, cut into blocks of nearly equal height that fit a register tile.
#[derive(Clone)]
pub(crate) struct RowBlocks {
    rows: Range<usize>,
    pub(crate) count: usize,
}

impl RowBlocks {
    pub(crate) fn new(rows: Range<usize>, height: usize) -> Self {
        Self { count: rows.len().div_ceil(height), rows }
    }

    /// The rows of block `index`.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Range<usize> {
        let (height, taller) = (self.rows.len() / self.count, self.rows.len() % self.count);
        let start = |i: usize| self.rows.start + i * height + i.min(taller);
        start(index)..start(index + 1)
    }

    /// Rows of the tallest block.
    pub(super) fn height(&self) -> usize {
        self.rows.len().div_ceil(self.count.max(1))
    }

    /// Where block `index` begins in packed storage of the given depth.
    #[inline]
    pub(crate) fn offset(&self, index: usize, depth: usize) -> usize {
        (self.get(index).start - self.rows.start) * depth
    }
}

/// A left operand that can be packed.
pub(crate) trait Left: Sync {
    /// Packs each block of rows as `[depth, rows]`, one after the other.
    ///
    /// # Safety
    /// The CPU has the instruction set of `K`; rows and depth lie within the operand; `out` holds rows times depth.
    unsafe fn pack<K: Kernel>(&self, blocks: &RowBlocks, depth: Range<usize>, out: &mut [f32]);

    /// Whether [`Left::rows`] needs no scratch.
    fn has_whole_rows(&self) -> bool;

    /// The operand, if it is a matrix whose columns are contiguous.
    fn columns(&self) -> Option<MatRef<'_>> {
        None
    }

    /// Elements `depth` of up to 16 rows, each contiguous: where they are, or copied to `scratch`.
    ///
    /// # Safety
    /// The CPU has the instruction set of `K`; rows and depth lie within the operand; `scratch` holds 16 times the depth
    /// unless the operand has whole rows.
    unsafe fn rows<K: Kernel>(
        &self,
        rows: Range<usize>,
        depth: Range<usize>,
        scratch: &mut [f32],
    ) -> [*const f32; 16];
}

/// A right operand that can be packed.
pub(crate) trait Right: Sync {
    /// Packs a range of rows of the given panels as if there were no other rows.
    ///
    /// # Safety
    /// The CPU has the instruction set of `K`; panels and depth lie within the operand; `out` is as long as
    /// [`Panels::stored`] says.
    unsafe fn pack<K: Kernel>(&self, depth: Range<usize>, panels: Range<usize>, out: &mut [f32]);

    /// Packs them in units of bf16, where the operand needs no rounding; else it does nothing and is false.
    ///
    /// # Safety
    /// As for [`Right::pack`]; `units` is as long as [`super::ReducedPanels`] says.
    #[inline(always)]
    unsafe fn pack_units<K: Kernel>(
        &self,
        _depth: Range<usize>,
        _panels: Range<usize>,
        _units: &mut [u32],
    ) -> bool {
        false
    }
}

/// Rows that are copied before the next block or panel gets its turn: they stay in the cache until all have read them.
const GROUP: usize = 128;

impl Left for MatRef<'_> {
    #[inline(always)]
    unsafe fn pack<K: Kernel>(&self, blocks: &RowBlocks, depth: Range<usize>, out: &mut [f32]) {
        debug_assert!(out.len() >= blocks.rows.len() * depth.len());
        let element = |row: usize, k: usize| {
            self.data.as_ptr().wrapping_add(row * self.row_stride + k * self.col_stride)
        };
        if self.row_stride == 1 {
            for start in depth.clone().step_by(GROUP) {
                let group = GROUP.min(depth.end - start);
                for index in 0..blocks.count {
                    let (rows, offset) = (blocks.get(index), blocks.offset(index, depth.len()));
                    let out = &mut out[offset + (start - depth.start) * rows.len()..][..group * rows.len()];
                    let (source, height) = (element(rows.start, start), rows.len());
                    // SAFETY: `height` rows of the operand lie side by side, `group` times.
                    unsafe {
                        K::copy(source, self.col_stride, height, group, out.as_mut_ptr(), height, height)
                    };
                }
            }
            return;
        }
        for index in 0..blocks.count {
            let (rows, offset) = (blocks.get(index), blocks.offset(index, depth.len()));
            let height = rows.len();
            let out = &mut out[offset..][..height * depth.len()];
            if self.col_stride == 1 {
                let mut sources = [std::ptr::null(); MAX_ROWS];
                sources.iter_mut().zip(rows).for_each(|(source, row)| *source = element(row, depth.start));
                // SAFETY: each row of the operand is contiguous.
                unsafe { K::interleave(&sources[..height], depth.len(), out.as_mut_ptr(), height, height) };
            } else {
                for (out, k) in out.chunks_exact_mut(height).zip(depth.clone()) {
                    for (out, row) in out.iter_mut().zip(rows.clone()) {
                        *out = self.data[row * self.row_stride + k * self.col_stride];
                    }
                }
            }
        }
    }

    fn has_whole_rows(&self) -> bool {
        self.col_stride == 1
    }

    fn columns(&self) -> Option<MatRef<'_>> {
        (self.row_stride == 1 && self.col_stride != 1).then_some(*self)
    }

    #[inline(always)]
    unsafe fn rows<K: Kernel>(
        &self,
        rows: Range<usize>,
        depth: Range<usize>,
        scratch: &mut [f32],
    ) -> [*const f32; 16] {
        let element = |row: usize, k: usize| {
            self.data.as_ptr().wrapping_add(row * self.row_stride + k * self.col_stride)
        };
        if self.has_whole_rows() {
            return std::array::from_fn(|i| element(rows.start + i, depth.start));
        }
        let len = depth.len();
        debug_assert!(rows.len() <= 16 && scratch.len() >= rows.len() * len);
        if self.row_stride == 1 {
            for first in (0..len).step_by(16) {
                let columns = 16.min(len - first);
                let sources: [_; 16] = std::array::from_fn(|k| element(rows.start, depth.start + first + k));
                let out = scratch[first..].as_mut_ptr();
                // SAFETY: the rows lie side by side in each column.
                unsafe { K::interleave(&sources[..columns], rows.len(), out, len, columns) };
            }
        } else {
            for (row, out) in rows.clone().zip(scratch.chunks_exact_mut(len.max(1))) {
                for (out, k) in out.iter_mut().zip(depth.clone()) {
                    *out = self.data[row * self.row_stride + k * self.col_stride];
                }
            }
        }
        std::array::from_fn(|i| scratch.as_ptr().wrapping_add(i * len))
    }
}

impl Right for MatRef<'_> {
    #[inline(always)]
    unsafe fn pack<K: Kernel>(&self, depth: Range<usize>, panels: Range<usize>, out: &mut [f32]) {
        assert!(out.len() >= Panels::stored(self.cols, panels.clone()) * depth.len());
        let element = |k: usize, column: usize| {
            self.data.as_ptr().wrapping_add(k * self.row_stride + column * self.col_stride)
        };
        // Half panels: their first column, how many columns they have, where they are stored and at what stride.
        let halves = (0..Panels::stored(self.cols, panels.clone()) / NARROW).map(|half| {
            let column = panels.start * PANEL + half * NARROW;
            let valid = self.cols.saturating_sub(column).min(NARROW);
            let offset = half * NARROW / PANEL * PANEL * depth.len() + column % PANEL;
            (column, valid, offset, Panels::width(self.cols, column / PANEL))
        });
        if self.col_stride == 1 {
            for start in depth.clone().step_by(GROUP) {
                let group = GROUP.min(depth.end - start);
                for (column, valid, offset, width) in halves.clone() {
                    let out = out[offset + (start - depth.start) * width..].as_mut_ptr();
                    // SAFETY: `valid` columns of the operand lie side by side, `group` times.
                    unsafe {
                        K::copy(element(start, column), self.row_stride, valid, group, out, width, NARROW)
                    };
                }
            }
            return;
        }
        for (column, valid, offset, width) in halves {
            if self.row_stride == 1 {
                let mut sources = [std::ptr::null(); NARROW];
                sources[..valid]
                    .iter_mut()
                    .enumerate()
                    .for_each(|(j, s)| *s = element(depth.start, column + j));
                let out = out[offset..].as_mut_ptr();
                // SAFETY: each column of the operand is contiguous.
                unsafe { K::interleave(&sources[..valid], depth.len(), out, width, NARROW) };
            } else {
                for (i, k) in depth.clone().enumerate() {
                    for (j, out) in out[offset + i * width..][..NARROW].iter_mut().enumerate() {
                        let at = k * self.row_stride + (column + j) * self.col_stride;
                        *out = if j < valid { self.data[at] } else { 0.0 };
                    }
                }
            }
        }
    }
}
