//! The plain definition of every forward operation, for f32 and f64: what the fast kernels are tested against, and
//! what their gradients are differentiated from. Slow on purpose; shapes are as for the kernel of the same name.

mod elements;
mod matrix;
mod reduced;
mod resample;
mod rows;

pub use elements::{
    adamw, add, add_broadcast, axpy, column_sums, dot, gather_rows, lerp, mul, scale, scatter_add_rows, sum,
    sum_squares,
};
pub use matrix::{attention, attention_weights, avg_pool2d, conv2d, epilogue, gemm};
pub use reduced::{
    gemm_bf16, gemm_int8, round_columns_to_int8, round_row_to_int8, round_to_bf16, round_to_bytes,
};
pub use resample::{resample_across, resample_along};
pub use rows::{
    activate, batch_norm_train, binary_cross_entropy, cross_entropy, l2_normalize, layer_norm, mean_axis,
    permute, rms_norm, softmax,
};

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// A real number: f32 or f64.
pub trait Real:
    Copy
    + Debug
    + PartialOrd
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Sum
{
    /// The nearest number of this type.
    fn of(value: f64) -> Self;
    /// The value as f64.
    fn to_f64(self) -> f64;
    /// Square root.
    fn sqrt(self) -> Self {
        Self::of(self.to_f64().sqrt())
    }
    /// `e^x`
    fn exp(self) -> Self {
        Self::of(self.to_f64().exp())
    }
    /// Natural logarithm.
    fn ln(self) -> Self {
        Self::of(self.to_f64().ln())
    }
    /// The larger number.
    fn max(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// The error function, to the precision of f64:
/// `2/√π Σ 2ⁿ x²ⁿ⁺¹ e^-x² / (2n+1)!!`: all terms have one sign, so nothing cancels.
pub(crate) fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() > 6.0 {
        return if x.is_nan() { x } else { x.signum() };
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > sum.abs() * 1e-18 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_agrees_with_tabled_values() {
        // Abramowitz and Stegun, table 7.1.
        for (x, y) in
            [(0.0, 0.0), (0.1, 0.1124629160), (0.5, 0.5204998778), (1.0, 0.8427007929), (2.0, 0.9953222650)]
        {
            assert!((erf(x) - y).abs() < 1e-10);
            assert!((erf(-x) + y).abs() < 1e-10);
        }
        assert_eq!(erf(f64::INFINITY), 1.0);
    }
}
