//! Products of small matrices within a task, on the thread that runs it.

use std::ops::Range;

use super::kernel::Kernel;
use super::pack::{OwnPanels, Panels, Right};
use super::product::{Target, multiply};
use super::{Epilogue, MatRef};
use crate::math::exp;

/// How a task multiplies matrices.
pub(crate) trait OwnProduct {
    /// A right operand that is ready.
    type Packed;

    /// Length of sums at which a few hundred rows and columns stay in the second-level cache.
    const DEPTH: usize;

    /// Packs rows `depth` of columns `columns` of `b`; the first column is that of a panel.
    ///
    /// # Safety
    /// The CPU has the instruction set of `K`, and what this product needs besides; rows and columns lie within `b`.
    unsafe fn pack_part<K: Kernel>(
        b: &impl Right,
        depth: Range<usize>,
        columns: Range<usize>,
    ) -> Self::Packed;

    /// Packs all of `b`.
    ///
    /// # Safety
    /// As for [`OwnProduct::pack_part`].
    #[inline(always)]
    unsafe fn pack<K: Kernel>(b: &MatRef) -> Self::Packed {
        // SAFETY: the same contract.
        unsafe { Self::pack_part::<K>(b, 0..b.rows, 0..b.cols) }
    }

    /// `e^x` for x of at most 0, as exactly as its products need it.
    fn exp(x: f32) -> f32;

    /// All of `a · b`, which is added to what the target holds if `accumulate`.
    ///
    /// # Safety
    /// As for [`OwnProduct::pack`]; the target has room for the product, and is this thread's.
    unsafe fn accumulate<K: Kernel>(a: &MatRef, b: &Self::Packed, target: Target, accumulate: bool);

    /// All of `a · b`.
    ///
    /// # Safety
    /// As for [`OwnProduct::accumulate`].
    #[inline(always)]
    unsafe fn multiply<K: Kernel>(a: &MatRef, b: &Self::Packed, target: Target) {
        // SAFETY: the same contract.
        unsafe { Self::accumulate::<K>(a, b, target, false) }
    }
}

/// In single precision.
pub(crate) struct InF32;

impl OwnProduct for InF32 {
    type Packed = OwnPanels;

    const DEPTH: usize = 256;

    #[inline(always)]
    unsafe fn pack_part<K: Kernel>(b: &impl Right, depth: Range<usize>, columns: Range<usize>) -> OwnPanels {
        // SAFETY: the same contract.
        unsafe { OwnPanels::pack::<K>(b, depth, columns) }
    }

    #[inline(always)]
    fn exp(x: f32) -> f32 {
        exp(x)
    }

    #[inline(always)]
    unsafe fn accumulate<K: Kernel>(a: &MatRef, b: &OwnPanels, target: Target, accumulate: bool) {
        let b = b.view();
        let panels = 0..Panels::count(b.columns);
        let epilogue = Epilogue { accumulate, ..Epilogue::default() };
        // SAFETY: all rows and panels there are.
        unsafe { multiply::<K, _>(a, 0..a.rows, b, panels, target, &epilogue) }
    }
}
