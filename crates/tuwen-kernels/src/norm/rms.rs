//! Root-mean-square normalisation of rows (Zhang and Sennrich 2019), as LLaMA does it: no mean is taken off, nothing is
//! added.
//!
//! Memory is the limit. A row is read twice, the second time from the first-level cache, and its sums run in 32 fixed
//! lanes: independent additions that fill the vector units. The backward pass makes `dx` and the gradient of `gamma` in
//! one pass over the rows.

use super::row_count;
use crate::math::sum_of;
use crate::reduce::sum_rows_by;
use crate::threads::{CHUNK, SendPtr, parallel_for};

multiversion! {
    /// Normalises a row; its reciprocal root mean square is returned.
    fn normalize_row(x: &[f32], gamma: &[f32], eps: f32, y: &mut [f32]) -> f32 {
        let rstd = 1.0 / (sum_of([x], |[x]| x * x) / x.len() as f32 + eps).sqrt();
        for ((y, x), gamma) in y.iter_mut().zip(x).zip(gamma) {
            *y = x * rstd * gamma;
        }
        rstd
    }

    /// The gradient of a row, and what the row adds to that of gamma.
    fn backward_row(dy: &[f32], x: &[f32], gamma: &[f32], rstd: f32, dx: &mut [f32], dgamma: &mut [f32]) {
        let n = dx.len() as f32;
        let mean_gx = sum_of([dy, gamma, x], |[dy, gamma, x]| dy * gamma * (x * rstd)) / n;
        for ((((dx, dy), x), gamma), dgamma) in dx.iter_mut().zip(dy).zip(x).zip(gamma).zip(dgamma) {
            *dx = rstd * (dy * gamma - x * rstd * mean_gx);
            *dgamma += dy * (x * rstd);
        }
    }
}

/// `y = x · rstd · gamma` for each row of `cols` elements; `rstd = 1 / sqrt(mean(x²) + eps)`, one per row, is what the
/// backward pass needs.
pub fn rms_norm(x: &[f32], gamma: &[f32], eps: f32, cols: usize, y: &mut [f32], rstd: Option<&mut [f32]>) {
    let rows = row_count("rms_norm", x.len(), cols);
    assert_eq!(x.len(), y.len(), "rms_norm: x and y differ in length");
    assert_eq!(gamma.len(), cols, "rms_norm: gamma has one element per column");
    assert!(rstd.as_ref().is_none_or(|rstd| rstd.len() == rows), "rms_norm: rstd has one element per row");
    let y = SendPtr(y.as_mut_ptr());
    let rstd = rstd.map(|rstd| SendPtr(rstd.as_mut_ptr()));
    let rows_per_task = (CHUNK / cols.max(1)).max(1);
    parallel_for(rows.div_ceil(rows_per_task), |task| {
        for row in task * rows_per_task..rows.min((task + 1) * rows_per_task) {
            // SAFETY: each row belongs to one task; the lengths were checked.
            unsafe {
                let y = y.slice(row * cols, cols);
                let of_row = normalize_row(&x[row * cols..][..cols], gamma, eps, y);
                if let Some(rstd) = &rstd {
                    *rstd.get().add(row) = of_row;
                }
            }
        }
    });
}

/// Gradients of [`rms_norm`]; `dx` and `dgamma` are overwritten.
pub fn rms_norm_backward(
    dy: &[f32],
    x: &[f32],
    gamma: &[f32],
    rstd: &[f32],
    cols: usize,
    dx: &mut [f32],
    dgamma: &mut [f32],
) {
    let rows = row_count("rms_norm_backward", x.len(), cols);
    assert!(dy.len() == x.len() && dx.len() == x.len(), "rms_norm_backward: dy, x and dx differ in length");
    assert_eq!(rstd.len(), rows, "rms_norm_backward: rstd has one element per row");
    assert!(
        gamma.len() == cols && dgamma.len() == cols,
        "rms_norm_backward: gamma and dgamma have one element per column"
    );
    let dx = SendPtr(dx.as_mut_ptr());
    sum_rows_by(rows, cols, dgamma, |range, dgamma| {
        for row in range {
            let at = row * cols..(row + 1) * cols;
            // SAFETY: the ranges of rows are disjoint, and dx is as long as x.
            let dx = unsafe { dx.slice(row * cols, cols) };
            backward_row(&dy[at.clone()], &x[at], gamma, rstd[row], dx, dgamma);
        }
    });
}
