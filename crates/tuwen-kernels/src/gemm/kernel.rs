//! What an instruction set brings to a matrix product, and the choice of one at run time.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::isa::{Isa, isa};

/// Columns of a panel of the right operand, and of a [`Tile`].
pub(crate) const PANEL: usize = 32;
/// The last panel may be this narrow.
pub(crate) const NARROW: usize = 16;
/// Rows of the largest register tile of any instruction set.
pub(crate) const MAX_ROWS: usize = 14;

/// Most lanes of any instruction set; they divide [`NARROW`].
pub(crate) const MAX_LANES: usize = 16;

/// A piece of the product on its way from the registers to memory.
#[repr(align(64))]
pub(crate) struct Tile(pub(crate) [[f32; PANEL]; MAX_ROWS]);

/// The inner loops that are written by hand for an instruction set.
///
/// # Safety
/// Every function needs a CPU that has the instruction set, which [`dispatch`] has checked.
pub(crate) trait Kernel {
    /// Rows of the register tile.
    const ROWS: usize;

    /// Some numbers in a register.
    type Vector: Copy;
    /// How many.
    const LANES: usize;

    /// `count <= LANES` numbers; the other lanes are unspecified.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn load(from: *const f32, count: usize) -> Self::Vector;

    /// Stores the first `count <= LANES` numbers.
    ///
    /// # Safety
    /// They are writable.
    unsafe fn store(to: *mut f32, count: usize, values: Self::Vector);

    /// Sums, lane by lane.
    ///
    /// # Safety
    /// None but the trait's.
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `tile[rows, width] = Σ_k a[k][rows] · b[k][width]` for `a [depth, rows]` and `b [depth, width]`.
    ///
    /// What lies `ahead` will be read soon; the kernel may ask for about as many lines of it as it has rows for.
    ///
    /// # Safety
    /// `rows <= ROWS`, `width` is [`PANEL`] or [`NARROW`], and both operands are readable.
    unsafe fn tile(
        rows: usize,
        width: usize,
        depth: usize,
        a: *const f32,
        b: *const f32,
        ahead: *const f32,
        tile: &mut Tile,
    );

    /// Asks for the cache line of an element that is to be read.
    fn prefetch(_element: *const f32) {}

    /// Asks for the cache line of an element that is to be written.
    fn prefetch_for_writing(_element: *const f32) {}

    /// `out[k * out_stride + i] = sources[i][k]` for `k < depth`; zeros up to `out_width`.
    ///
    /// # Safety
    /// `sources.len() <= out_width <= 16`, each source has `depth` elements, and the target is writable.
    unsafe fn interleave(
        sources: &[*const f32],
        depth: usize,
        out: *mut f32,
        out_stride: usize,
        out_width: usize,
    );

    /// `out[k * out_stride + i] = source[k * stride + i]` for `i < width` and `k < depth`; zeros up to `out_width`.
    ///
    /// # Safety
    /// `width <= out_width <= 16`, and source and target are accessible.
    unsafe fn copy(
        source: *const f32,
        stride: usize,
        width: usize,
        depth: usize,
        out: *mut f32,
        out_stride: usize,
        out_width: usize,
    );
}

/// Work that is compiled for each instruction set. `run` should be `#[inline(always)]`, so that LLVM vectorises what
/// is not written by hand.
pub(crate) trait Task {
    /// Does the work.
    ///
    /// # Safety
    /// The CPU has the instruction set of `K`.
    unsafe fn run<K: Kernel>(self);
}

/// Runs the task with the instruction set in use.
pub(crate) fn dispatch(task: impl Task) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn avx512(task: impl Task) {
            // SAFETY: the caller's features are those of the kernel.
            unsafe { task.run::<super::avx512::Avx512>() }
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(task: impl Task) {
            // SAFETY: as above.
            unsafe { task.run::<super::avx2::Avx2>() }
        }
        match isa() {
            // SAFETY: `isa` only reports what this CPU has.
            Isa::Avx512 | Isa::Amx => return unsafe { avx512(task) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { avx2(task) },
            Isa::Portable | Isa::Neon => {}
        }
    }
    #[cfg(target_arch = "aarch64")]
    if isa() == Isa::Neon {
        // SAFETY: every aarch64 CPU has NEON.
        return unsafe { task.run::<super::neon::Neon>() };
    }
    // SAFETY: the portable kernel needs nothing.
    unsafe { task.run::<super::portable::Portable>() }
}

/// Calls a function of a const number of rows.
macro_rules! with_const_rows {
    ($rows:expr, [$($n:literal)*], $function:ident::<_, $width:literal>$args:tt) => {
        match $rows {
            $($n => $function::<$n, $width> $args,)*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
pub(super) use with_const_rows;
