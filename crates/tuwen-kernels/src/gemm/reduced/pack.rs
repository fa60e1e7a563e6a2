//! The right operand in units: conversion from f32, and back.

use std::ops::Range;

use super::super::kernel::{Kernel, PANEL, Task, dispatch};
use super::super::pack::{PanelSource, Panels, Right};
use crate::aligned::{AlignedBuf, Scratch};
use crate::bf16::nearest;
use crate::precision::Precision;
use crate::threads::{SendPtr, parallel_for};

/// A precision below single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    Bf16,
    Int8,
}

impl Reduction {
    pub(crate) fn of(precision: Precision) -> Option<Self> {
        match precision {
            Precision::F32 => None,
            Precision::Bf16 => Some(Self::Bf16),
            Precision::Int8 => Some(Self::Int8),
        }
    }

    /// Numbers in a unit.
    pub(super) fn unit(self) -> usize {
        match self {
            Self::Bf16 => 2,
            Self::Int8 => 4,
        }
    }

    /// Units that a depth takes: whole tiles of sixteen, filled up with zeros.
    pub(crate) fn units(self, depth: usize) -> usize {
        depth.div_ceil(self.unit()).next_multiple_of(16)
    }
}

/// A right operand `[depth, columns]` in units, in panels as [`Panels`] has them: a panel is stored as `[units, 32]`
/// (or 16). Int8 has a scale and the sum of the stored numbers for each stored column.
#[derive(Clone, Copy)]
pub(crate) struct ReducedPanels<'a> {
    pub(crate) reduction: Reduction,
    pub(crate) units: &'a [u32],
    pub(crate) scales: &'a [f32],
    pub(crate) depth: usize,
    pub(crate) columns: usize,
}

impl<'a> ReducedPanels<'a> {
    /// Lengths of units and of scales for an operand of this size.
    pub(crate) fn stored(reduction: Reduction, depth: usize, columns: usize) -> [usize; 2] {
        let stored = Panels::stored(columns, 0..Panels::count(columns));
        let scales = if reduction == Reduction::Int8 { 2 * Panels::count(columns) * PANEL } else { 0 };
        [stored * reduction.units(depth), scales]
    }

    pub(crate) fn panel(&self, index: usize) -> &'a [u32] {
        let units = self.reduction.units(self.depth);
        &self.units[index * PANEL * units..][..Panels::width(self.columns, index) * units]
    }

    /// Scales of the columns of a panel, in int8.
    pub(crate) fn scales(&self, index: usize) -> &'a [f32; PANEL] {
        self.quantisation(index).0
    }

    /// Scales and sums of the columns of a panel.
    #[inline(always)]
    pub(super) fn quantisation(&self, index: usize) -> (&'a [f32; PANEL], &'a [f32; PANEL]) {
        let (pairs, _) = self.scales.as_chunks::<PANEL>();
        (&pairs[2 * index], &pairs[2 * index + 1])
    }
}

/// Packs all of `b [depth, columns]` on all threads into memory of [`ReducedPanels::stored`] elements.
pub(crate) fn pack_all(
    b: &impl Right,
    reduction: Reduction,
    [depth, columns]: [usize; 2],
    units: &mut [u32],
    scales: &mut [f32],
) {
    let stored = ReducedPanels::stored(reduction, depth, columns);
    assert_eq!([units.len(), scales.len()], stored, "the packed form of [{depth}, {columns}]");
    let (units, scales) = (SendPtr(units.as_mut_ptr()), SendPtr(scales.as_mut_ptr()));
    let panel_len = PANEL * reduction.units(depth);
    parallel_for(Panels::count(columns), |index| {
        let width = Panels::width(columns, index);
        // SAFETY: each panel and its scales are written by one task, within the lengths that were checked.
        let (units, scales) = unsafe {
            let scales = match reduction {
                Reduction::Bf16 => &mut [],
                Reduction::Int8 => scales.slice(2 * index * PANEL, 2 * PANEL),
            };
            (units.slice(index * panel_len, width * reduction.units(depth)), scales)
        };
        dispatch(PackPanel { b, reduction, depth: 0..depth, index, width, units, scales });
    });
}

/// Packs one panel.
pub(super) struct PackPanel<'a, R> {
    pub(super) b: &'a R,
    pub(super) reduction: Reduction,
    pub(super) depth: Range<usize>,
    pub(super) index: usize,
    pub(super) width: usize,
    pub(super) units: &'a mut [u32],
    pub(super) scales: &'a mut [f32],
}

/// Rows that are converted at a time, in the cache: as many as there are streams that a prefetcher follows.
const ROWS: usize = 32;

impl<R: Right> Task for PackPanel<'_, R> {
    #[inline(always)]
    unsafe fn run<K: Kernel>(self) {
        let Self { b, reduction, depth, index, width, units, scales } = self;
        if depth.is_empty() {
            return;
        }
        match reduction {
            Reduction::Bf16 => {
                // SAFETY: these rows and this panel lie within the operand.
                unsafe { pack_bf16::<K>(b, depth, index, width, units) };
            }
            Reduction::Int8 => {
                let padded = 4 * reduction.units(depth.len());
                let mut rows = Scratch::take(padded * width);
                // SAFETY: all rows of this panel.
                unsafe { b.pack::<K>(depth.clone(), index..index + 1, &mut rows) };
                rows[depth.len() * width..].fill(0.0);
                to_int8(&rows, width, units, scales);
            }
        }
    }
}

/// Packs rows `depth` of `columns` columns in bf16, from panel `first` on; a few rows of all panels at a time, so that memory
/// is read along its rows.
///
/// # Safety
/// The CPU has the instruction set of `K`; rows and columns lie within the operand.
#[inline(always)]
pub(super) unsafe fn pack_bf16<K: Kernel>(
    b: &impl Right,
    depth: Range<usize>,
    first: usize,
    columns: usize,
    units: &mut [u32],
) {
    let (panels, stored_units) = (Panels::count(columns), Reduction::Bf16.units(depth.len()));
    // SAFETY: the caller's contract.
    if unsafe { b.pack_units::<K>(depth.clone(), first..first + panels, units) } {
        return;
    }
    let mut rows = Scratch::take(ROWS * Panels::stored(columns, 0..panels));
    for unit in (0..stored_units).step_by(ROWS / 2) {
        let from = (depth.start + 2 * unit).min(depth.end);
        let len = ROWS.min(depth.end - from);
        // SAFETY: the caller's contract.
        unsafe { b.pack::<K>(from..from + len, first..first + panels, &mut rows) };
        for panel in 0..panels {
            let width = Panels::width(columns, panel);
            let units = &mut units[panel * PANEL * stored_units..][..width * stored_units][unit * width..];
            let end = units.len().min(ROWS / 2 * width);
            to_bf16(&rows[panel * PANEL * len..][..width * len], width, &mut units[..end]);
        }
    }
}

/// Pairs of rows of `width` numbers to rows of units; those that are lacking are zeros.
#[inline(always)]
fn to_bf16(rows: &[f32], width: usize, units: &mut [u32]) {
    let (pairs, last) = rows.split_at(rows.len() / (2 * width) * 2 * width);
    let (units, lacking) = units.split_at_mut(pairs.len() / 2);
    pairs_to_bf16(pairs, width, units);
    lacking.fill(0);
    if !last.is_empty() {
        let mut pair = [0.0; 2 * PANEL];
        pair[..width].copy_from_slice(last);
        pairs_to_bf16(&pair[..2 * width], width, &mut lacking[..width]);
    }
}

/// Pairs of rows of `width` numbers to rows of units.
#[inline(always)]
fn pairs_to_bf16(rows: &[f32], width: usize, units: &mut [u32]) {
    #[cfg(target_arch = "x86_64")]
    if !matches!(super::unit(Reduction::Bf16), super::Unit::None) {
        // SAFETY: a CPU that multiplies bf16 converts to it.
        return unsafe { super::convert::rows_to_bf16(rows, width, units) };
    }
    for (units, pair) in units.chunks_exact_mut(width).zip(rows.chunks_exact(2 * width)) {
        let (first, second) = pair.split_at(width);
        for ((unit, first), second) in units.iter_mut().zip(first).zip(second) {
            *unit = nearest(*first) | nearest(*second) << 16;
        }
    }
}

/// Fours of rows of `width` numbers to rows of units, with the scale of each column and the sum of what is stored in it.
#[inline(always)]
fn to_int8(rows: &[f32], width: usize, units: &mut [u32], scales: &mut [f32]) {
    let (scales, sums) = scales.split_at_mut(PANEL);
    scales.fill(0.0);
    sums.fill(0.0);
    for row in rows.chunks_exact(width) {
        for (largest, x) in scales.iter_mut().zip(row) {
            *largest = largest.max(x.abs());
        }
    }
    let mut factors = [0.0; PANEL];
    for (factor, scale) in factors.iter_mut().zip(scales) {
        *scale = if *scale > 0.0 { *scale / 127.0 } else { 1.0 };
        *factor = 1.0 / *scale;
    }
    for (units, four) in units.chunks_exact_mut(width).zip(rows.chunks_exact(4 * width)) {
        units.fill(0);
        for (byte, row) in four.chunks_exact(width).enumerate() {
            for (((unit, x), factor), sum) in units.iter_mut().zip(row).zip(&factors).zip(&mut *sums) {
                let stored = (x * factor).round_ties_even();
                *sum += stored; // exact: sums of 8-bit numbers stay below 2^24
                #[allow(clippy::manual_clamp)] // `clamp` of a NaN is a NaN
                // SAFETY: `max` and `min` leave a number between the two, of a NaN as well.
                let stored = unsafe { stored.max(-127.0).min(127.0).to_int_unchecked::<i32>() };
                *unit |= (stored as u32 & 0xff) << (8 * byte);
            }
        }
    }
}

impl PanelSource for ReducedPanels<'_> {
    fn depth(&self) -> usize {
        self.depth
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn address(&self, index: usize, row: usize) -> *const f32 {
        let width = Panels::width(self.columns, index);
        let start = index * PANEL * self.reduction.units(self.depth) + row / self.reduction.unit() * width;
        self.units.as_ptr().wrapping_add(start).cast()
    }

    fn scratch(depth: usize) -> Option<Scratch> {
        Some(Scratch::take(depth * PANEL))
    }

    #[inline(always)]
    fn panel<'s>(&'s self, index: usize, depth: Range<usize>, scratch: &'s mut Option<Scratch>) -> &'s [f32] {
        let (width, unit) = (Panels::width(self.columns, index), self.reduction.unit());
        let panel = ReducedPanels::panel(self, index);
        let Some(scratch) = scratch else { return &[] };
        let out = &mut scratch[..depth.len() * width];
        for (row, k) in out.chunks_exact_mut(width).zip(depth) {
            let (units, part) = (&panel[k / unit * width..][..width], k % unit);
            match self.reduction {
                Reduction::Bf16 => {
                    for (x, unit) in row.iter_mut().zip(units) {
                        *x = f32::from_bits(unit >> (16 * part) << 16);
                    }
                }
                Reduction::Int8 => {
                    let (scales, _) = self.quantisation(index);
                    for ((x, unit), scale) in row.iter_mut().zip(units).zip(scales) {
                        *x = f32::from((unit >> (8 * part)) as i8) * scale;
                    }
                }
            }
        }
        out
    }
}

/// Memory for the packed form of an operand.
#[derive(Debug)]
pub(crate) struct ReducedBuf {
    reduction: Reduction,
    units: AlignedBuf,
    scales: AlignedBuf,
}

impl ReducedBuf {
    /// Packs all of `b [depth, columns]`.
    pub(crate) fn pack(b: &impl Right, reduction: Reduction, size: [usize; 2]) -> Self {
        let [units, scales] = ReducedPanels::stored(reduction, size[0], size[1]).map(AlignedBuf::zeroed);
        let mut packed = Self { reduction, units, scales };
        pack_all(b, reduction, size, packed.units.as_bits_mut(), &mut packed.scales);
        packed
    }

    pub(crate) fn precision(&self) -> Precision {
        match self.reduction {
            Reduction::Bf16 => Precision::Bf16,
            Reduction::Int8 => Precision::Int8,
        }
    }

    pub(crate) fn panels(&self, depth: usize, columns: usize) -> ReducedPanels<'_> {
        let (units, scales) = (self.units.as_bits(), &self.scales[..]);
        ReducedPanels { reduction: self.reduction, units, scales, depth, columns }
    }
}
