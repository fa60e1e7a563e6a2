//! Products of less than single precision.
//!
//! Both operands are stored in *units* of four bytes: two bf16 or four int8 numbers that follow each other along the
//! depth. One instruction multiplies the units of a row and a column and adds all their products to a sum of 32 bits.
//!
//! - bf16: both operands are rounded to the nearest, and their products are summed in f32.
//! - int8: a column `w` of the right operand is stored as `q = round(w / s)` with `s = max|w| / 127`. A row `x` of the
//!   left one is stored as `p = round(x / t) + z` in 0 to 255, with the `t` and `z` that its least and its greatest
//!   number ask for. Then `x · w = s t (Σ p q - z Σ q)`, and the sums are exact.
//!
//! Where the CPU has no instruction for a unit, panels are turned back into f32 just before they are multiplied: the
//! weight still takes a half or a quarter of the memory.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod convert;
mod own;
mod pack;
#[cfg(target_arch = "x86_64")]
mod product;

use super::Epilogue;
use super::pack::Left;
use super::product::product as product_in_f32;
use crate::isa::{Isa, isa};
use crate::precision::Precision;

#[cfg(target_arch = "x86_64")]
pub(crate) use convert::bf16_of;
pub(crate) use own::{OwnTask, dispatch_in};
pub(crate) use pack::{ReducedBuf, ReducedPanels, Reduction, pack_all};

/// `c [rows, columns] = a · b`, then the epilogue, on all threads. Lengths have been checked.
pub(crate) fn product(a: &impl Left, rows: usize, b: ReducedPanels, c: &mut [f32], epilogue: &Epilogue) {
    #[cfg(target_arch = "x86_64")]
    match (b.reduction, unit(b.reduction)) {
        (Reduction::Bf16, Unit::Tiles) => return product::product::<amx::Bf16>(a, rows, b, c, epilogue),
        (Reduction::Bf16, Unit::Vectors) => return product::product::<avx512::Bf16>(a, rows, b, c, epilogue),
        (Reduction::Int8, Unit::Tiles) => return product::product::<amx::Int8>(a, rows, b, c, epilogue),
        (Reduction::Int8, Unit::Vectors) => return product::product::<avx512::Int8>(a, rows, b, c, epilogue),
        (_, Unit::None) => {}
    }
    product_in_f32(a, rows, b, c, epilogue);
}

/// What multiplies units.
enum Unit {
    /// AMX.
    Tiles,
    /// AVX-512 BF16 or VNNI.
    Vectors,
    None,
}

#[cfg(target_arch = "x86_64")]
fn unit(reduction: Reduction) -> Unit {
    let has_vectors = || match reduction {
        Reduction::Bf16 => is_x86_feature_detected!("avx512bf16"),
        Reduction::Int8 => is_x86_feature_detected!("avx512vnni"),
    };
    match isa() {
        Isa::Amx => Unit::Tiles,
        Isa::Avx512 if has_vectors() => Unit::Vectors,
        _ => Unit::None,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn unit(_reduction: Reduction) -> Unit {
    Unit::None
}

/// Whether products of a precision are faster than in single precision, by an instruction of the CPU.
pub fn has_fast(precision: Precision) -> bool {
    match Reduction::of(precision) {
        Some(reduction) => !matches!(unit(reduction), Unit::None),
        None => true,
    }
}
