//! Products of small matrices in units within a task, and the choice of one.

use std::marker::PhantomData;

use super::super::MatRef;
use super::super::kernel::{Kernel, Task, dispatch};
use super::super::own::{InF32, OwnProduct};
#[cfg(target_arch = "x86_64")]
use super::{Unit, amx, avx512, unit};
use crate::precision::Precision;

/// Work of one thread that multiplies small matrices in a way of its caller's choice. `run` should be
/// `#[inline(always)]`.
pub(crate) trait OwnTask {
    /// Does the work.
    ///
    /// # Safety
    /// The CPU has the instruction set of `K`, and what `P` needs besides.
    unsafe fn run<K: Kernel, P: OwnProduct>(self);
}

struct With<T, P>(T, PhantomData<P>);

impl<T: OwnTask, P: OwnProduct> Task for With<T, P> {
    #[inline(always)]
    unsafe fn run<K: Kernel>(self) {
        // SAFETY: `P` was chosen for this CPU.
        unsafe { self.0.run::<K, P>() }
    }
}

/// Runs the task with the instruction set in use and the products of a precision: in bf16 where that is asked for and
/// the CPU multiplies it, else in single precision.
pub(crate) fn dispatch_in(precision: Precision, task: impl OwnTask) {
    #[cfg(target_arch = "x86_64")]
    if precision != Precision::F32 {
        match unit(super::Reduction::Bf16) {
            Unit::Tiles => return dispatch(With(task, PhantomData::<InUnits<amx::Bf16>>)),
            Unit::Vectors => return dispatch(With(task, PhantomData::<InUnits<avx512::Bf16>>)),
            Unit::None => {}
        }
    }
    let _ = precision;
    dispatch(With(task, PhantomData::<InF32>));
}

#[cfg(target_arch = "x86_64")]
pub(crate) use units::InUnits;

#[cfg(target_arch = "x86_64")]
mod units {
    use std::ops::Range;

    use super::super::super::pack::{Panels, Right};
    use super::super::super::product::Target;
    use super::super::super::{Epilogue, kernel::PANEL};
    use super::super::pack::{ReducedPanels, pack_bf16};
    use super::super::product::{Dot, multiply};
    use super::*;
    use crate::aligned::Scratch;
    use crate::math::rough_exp;

    /// In units of bf16, by an instruction.
    pub(crate) struct InUnits<D>(PhantomData<D>);

    /// A right operand in units.
    pub(crate) struct OwnUnits {
        units: Scratch,
        depth: usize,
        columns: usize,
    }

    impl<D: Dot> OwnProduct for InUnits<D> {
        type Packed = OwnUnits;

        const DEPTH: usize = 256;

        #[inline(always)]
        unsafe fn pack_part<K: Kernel>(
            b: &impl Right,
            depth: Range<usize>,
            columns: Range<usize>,
        ) -> OwnUnits {
            let (first, rows, columns) = (columns.start / PANEL, depth.len(), columns.len());
            let mut units = Scratch::take(ReducedPanels::stored(D::REDUCTION, rows, columns)[0]);
            // SAFETY: the caller's contract.
            unsafe { pack_bf16::<K>(b, depth, first, columns, units.as_bits_mut()) };
            OwnUnits { units, depth: rows, columns }
        }

        #[inline(always)]
        fn exp(x: f32) -> f32 {
            rough_exp(x)
        }

        #[inline(always)]
        unsafe fn accumulate<K: Kernel>(a: &MatRef, b: &OwnUnits, target: Target, accumulate: bool) {
            let panels = 0..Panels::count(b.columns);
            let b = ReducedPanels {
                reduction: D::REDUCTION,
                units: b.units.as_bits(),
                scales: &[],
                depth: b.depth,
                columns: b.columns,
            };
            let epilogue = Epilogue { accumulate, ..Epilogue::default() };
            // SAFETY: all rows and panels there are.
            unsafe { multiply::<K, D>(a, 0..a.rows, b, panels, target, &epilogue) }
        }
    }
}
