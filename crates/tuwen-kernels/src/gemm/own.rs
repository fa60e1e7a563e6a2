//! Products of small matrices within a task, on the thread that runs it.

use super::kernel::Kernel;
use super::pack::{OwnPanels, Panels};
use super::product::{Target, multiply};
use super::{Epilogue, MatRef};
use crate::math::exp;

/// How a task multiplies matrices.
pub(crate) trait OwnProduct {
    /// A right operand that is ready.
    type Packed;

    /// Packs all of `b`.
    ///
    /// # Safety
    /// The CPU has the instruction set of `K`, and what this product needs besides.
    unsafe fn pack<K: Kernel>(b: &MatRef) -> Self::Packed;

    /// `e^x` for x of at most 0, as exactly as its products need it.
    fn exp(x: f32) -> f32;

    /// All of `a · b`.
    ///
    /// # Safety
    /// As for [`OwnProduct::pack`]; the target has room for the product, and is this thread's.
    unsafe fn multiply<K: Kernel>(a: &MatRef, b: &Self::Packed, target: Target);
}

/// In single precision.
pub(crate) struct InF32;

impl OwnProduct for InF32 {
    type Packed = OwnPanels;

    #[inline(always)]
    unsafe fn pack<K: Kernel>(b: &MatRef) -> OwnPanels {
        // SAFETY: the same contract.
        unsafe { OwnPanels::pack::<K>(b) }
    }

    #[inline(always)]
    fn exp(x: f32) -> f32 {
        exp(x)
    }

    #[inline(always)]
    unsafe fn multiply<K: Kernel>(a: &MatRef, b: &OwnPanels, target: Target) {
        let b = b.view();
        let panels = 0..Panels::count(b.columns);
        // SAFETY: all rows and panels there are.
        unsafe { multiply::<K, _>(a, 0..a.rows, b, panels, target, &Epilogue::default()) }
    }
}
