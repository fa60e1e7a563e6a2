//! Definitions of products of less than single precision.

use super::gemm;

/// The bf16 number nearest to an f32, ties to even.
pub fn round_to_bf16(x: f32) -> f64 {
    // Eight significant bits: what is below is rounded away by adding and taking away a multiple of it.
    let x = f64::from(x);
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let step = 2f64.powi(x.abs().log2().floor() as i32 - 7);
    (x / step).round_ties_even() * step
}

/// `a [m, k] · b [k, n]` of rounded operands.
pub fn gemm_bf16(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f64> {
    let rounded = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| round_to_bf16(x)).collect() };
    gemm(&rounded(a), &rounded(b), m, k, n)
}

/// The columns of `b [k, n]` as 8 bits can say them: `s · round(b / s)` with `s = max|b| / 127` of the column.
pub fn round_columns_to_int8(b: &[f32], k: usize, n: usize) -> Vec<f64> {
    let scale = |column: usize| {
        let largest = (0..k).map(|row| b[row * n + column].abs()).fold(0.0, f32::max);
        if largest > 0.0 { largest / 127.0 } else { 1.0 }
    };
    let rounded = |i: usize| {
        let scale = scale(i % n);
        f64::from((b[i] * (1.0 / scale)).round_ties_even()) * f64::from(scale)
    };
    (0..k * n).map(rounded).collect()
}

/// A row as 8 bits can say it: `t · (round(x / t + z) - z)` in 256 steps from its least number, or zero, to its greatest.
pub fn round_row_to_int8(row: &[f32]) -> Vec<f64> {
    let (low, high) = row.iter().fold((0f32, 0f32), |(low, high), &x| (low.min(x), high.max(x)));
    let scale = if high > low { (high - low) / 255.0 } else { 1.0 };
    let factor = 1.0 / scale;
    let zero = (-low * factor).round_ties_even();
    let stored = |x: f32| f64::from(x.mul_add(factor, zero).round_ties_even().clamp(0.0, 255.0));
    row.iter().map(|&x| f64::from(scale) * (stored(x) - f64::from(zero))).collect()
}

/// Numbers that are not negative as bytes can say them: `t · round(x / t)` in 255 steps from zero to their greatest.
pub fn round_to_bytes(x: &[f32]) -> Vec<f64> {
    let scale = x.iter().fold(0f32, |greatest, &x| greatest.max(x)) / 255.0;
    let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    x.iter().map(|&x| f64::from(scale) * (f64::from(x) * f64::from(factor)).round_ties_even()).collect()
}

/// `a [m, k] · b [k, n]` of rounded rows and columns.
pub fn gemm_int8(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f64> {
    let rows: Vec<f64> = a.chunks_exact(k.max(1)).flat_map(round_row_to_int8).collect();
    gemm(&rows, &round_columns_to_int8(b, k, n), m, k, n)
}
