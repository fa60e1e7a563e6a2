//! A right operand whose numbers are in bf16 already.

use std::ops::Range;

use super::MatRef;
use super::kernel::{Kernel, NARROW, PANEL};
use super::pack::{Panels, Right};
use super::reduced::Reduction;

impl<'a> MatRef<'a, u16> {
    /// Where the pairs of a unit stand side by side in each column: they are moved as they are.
    ///
    /// # Safety
    /// As for [`Right::pack`], of columns that are contiguous, whose pairs can be read as one number.
    #[inline(always)]
    unsafe fn pack_columns<K: Kernel>(&self, depth: Range<usize>, panels: Range<usize>, units: &mut [u32]) {
        let stored = Reduction::Bf16.units(depth.len());
        for (index, panel) in panels.zip(units.chunks_mut((PANEL * stored).max(1))) {
            let width = Panels::width(self.cols, index);
            let (whole, lacking) = panel[..width * stored].split_at_mut(depth.len() / 2 * width);
            lacking.fill(0);
            for half in 0..width / NARROW {
                let column = index * PANEL + half * NARROW;
                let columns = column..self.cols.min(column + NARROW);
                let mut sources = [std::ptr::null(); NARROW];
                for (source, column) in sources.iter_mut().zip(columns.clone()) {
                    *source = self.data[column * self.col_stride + depth.start..].as_ptr().cast();
                }
                let out = whole[half * NARROW..].as_mut_ptr().cast();
                // SAFETY: the pairs of each column are contiguous and aligned, says the caller.
                unsafe { K::interleave(&sources[..columns.len()], depth.len() / 2, out, width, NARROW) };
            }
        }
    }

    /// Where rows are contiguous: two of them are joined.
    #[inline(always)]
    fn pack_rows(&self, depth: Range<usize>, panels: Range<usize>, units: &mut [u32]) {
        let stored = Reduction::Bf16.units(depth.len());
        let row = |k: usize| -> &'a [u16] {
            match depth.start + k {
                k if k < depth.end => &self.data[k * self.row_stride..][..self.cols],
                _ => &[],
            }
        };
        for unit in 0..stored {
            let (first, second) = (row(2 * unit), row(2 * unit + 1));
            for (i, index) in panels.clone().enumerate() {
                let (width, start) = (Panels::width(self.cols, index), index * PANEL);
                let columns = start..self.cols.min(start + width);
                let part = |row: &'a [u16]| row.get(columns.clone()).unwrap_or_default();
                join(part(first), part(second), &mut units[i * PANEL * stored + unit * width..][..width]);
            }
        }
    }
}

/// Units of two rows; what they lack is zeros.
#[inline(always)]
fn join(first: &[u16], second: &[u16], units: &mut [u32]) {
    let unit = |first: u16, second: u16| u32::from(first) | u32::from(second) << 16;
    if first.len() == units.len() && second.len() == units.len() {
        // Of a known length, because shorter loops than LLVM unrolls are left to single numbers.
        let rows = first.as_chunks::<NARROW>().0.iter().zip(second.as_chunks::<NARROW>().0);
        for (units, (first, second)) in units.as_chunks_mut::<NARROW>().0.iter_mut().zip(rows) {
            *units = std::array::from_fn(|i| unit(first[i], second[i]));
        }
        return;
    }
    if first.is_empty() {
        return units.fill(0);
    }
    let at = |row: &[u16], i: usize| row.get(i).copied().unwrap_or(0);
    units.iter_mut().enumerate().for_each(|(i, out)| *out = unit(at(first, i), at(second, i)));
}

impl Right for MatRef<'_, u16> {
    #[inline(always)]
    unsafe fn pack<K: Kernel>(&self, depth: Range<usize>, panels: Range<usize>, out: &mut [f32]) {
        for (index, panel) in panels.zip(out.chunks_mut((PANEL * depth.len()).max(1))) {
            let width = Panels::width(self.cols, index);
            for (row, k) in panel.chunks_exact_mut(width).zip(depth.clone()) {
                for (x, column) in row.iter_mut().zip(index * PANEL..) {
                    let at = k * self.row_stride + column * self.col_stride;
                    let bits = if column < self.cols { self.data[at] } else { 0 };
                    *x = f32::from_bits(u32::from(bits) << 16);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn pack_units<K: Kernel>(
        &self,
        depth: Range<usize>,
        panels: Range<usize>,
        units: &mut [u32],
    ) -> bool {
        let even = [depth.start, depth.len(), self.col_stride].iter().all(|len| len.is_multiple_of(2));
        let has_pairs = self.row_stride == 1 && even && self.data.as_ptr().cast::<u32>().is_aligned();
        if has_pairs {
            // SAFETY: the caller's contract; the pairs are there and aligned.
            unsafe { self.pack_columns::<K>(depth, panels, units) };
        } else if self.col_stride == 1 {
            self.pack_rows(depth, panels, units);
        }
        has_pairs || self.col_stride == 1
    }
}
