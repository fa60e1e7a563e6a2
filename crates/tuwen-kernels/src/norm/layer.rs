//! Layer normalisation of rows.
//!
//! Memory is the limit: a row comes from there once and is in the first-level cache for the three passes of mean, variance
//! (exact, of deviations) and result. The backward pass makes the gradient of the input and the sums for `gamma` and `beta`
//! while a row is there.

use super::row_count;
use crate::math::sum_of;
use crate::reduce::sum_rows_by;
use crate::threads::{CHUNK, SendPtr, parallel_for};

multiversion! {
    /// Normalises a row; its mean and reciprocal standard deviation are returned.
    fn normalize_row(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &mut [f32]) -> (f32, f32) {
        let n = x.len() as f32;
        let mean = sum_of([x], |[x]| x) / n;
        let variance = sum_of([x], |[x]| (x - mean) * (x - mean)) / n;
        let rstd = 1.0 / (variance + eps).sqrt();
        for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
            *y = (x - mean) * rstd * gamma + beta;
        }
        (mean, rstd)
    }

    /// `dx` is added to if `onto`, else overwritten.
    fn backward_row(
        dy: &[f32],
        x: &[f32],
        gamma: &[f32],
        mean: f32,
        rstd: f32,
        onto: bool,
        dx: &mut [f32],
    ) {
        let n = dx.len() as f32;
        let mean_g = sum_of([dy, gamma], |[dy, gamma]| dy * gamma) / n;
        let mean_gx = sum_of([dy, gamma, x], |[dy, gamma, x]| dy * gamma * ((x - mean) * rstd)) / n;
        let gradient = |dy, x, gamma| rstd * (dy * gamma - mean_g - (x - mean) * rstd * mean_gx);
        if onto {
            for (((dx, dy), x), gamma) in dx.iter_mut().zip(dy).zip(x).zip(gamma) {
                *dx += gradient(dy, x, gamma);
            }
        } else {
            for (((dx, dy), x), gamma) in dx.iter_mut().zip(dy).zip(x).zip(gamma) {
                *dx = gradient(dy, x, gamma);
            }
        }
    }

    fn add_parameter_gradients(
        dy: &[f32],
        x: &[f32],
        mean: f32,
        rstd: f32,
        dgamma: &mut [f32],
        dbeta: &mut [f32],
    ) {
        for (((dgamma, dbeta), dy), x) in dgamma.iter_mut().zip(dbeta).zip(dy).zip(x) {
            *dgamma += dy * ((x - mean) * rstd);
            *dbeta += dy;
        }
    }
}

/// `y = (x - mean) · rstd · gamma + beta` for each row of `cols` elements; `rstd = 1 / sqrt(variance + eps)` with
/// the biased variance. `mean` and `rstd`, one per row, are what the backward pass needs.
pub fn layer_norm(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    cols: usize,
    y: &mut [f32],
    mean: Option<&mut [f32]>,
    rstd: Option<&mut [f32]>,
) {
    let rows = row_count("layer_norm", x.len(), cols);
    assert_eq!(x.len(), y.len(), "layer_norm: x and y differ in length");
    assert!(
        gamma.len() == cols && beta.len() == cols,
        "layer_norm: gamma and beta have one element per column"
    );
    for statistic in [&mean, &rstd].into_iter().flatten() {
        assert_eq!(statistic.len(), rows, "layer_norm: mean and rstd have one element per row");
    }
    let y = SendPtr(y.as_mut_ptr());
    let [mean, rstd] = [mean, rstd].map(|s| s.map(|s| SendPtr(s.as_mut_ptr())));
    let rows_per_task = (CHUNK / cols.max(1)).max(1);
    parallel_for(rows.div_ceil(rows_per_task), |task| {
        for row in task * rows_per_task..rows.min((task + 1) * rows_per_task) {
            // SAFETY: each row belongs to one task; the lengths were checked.
            unsafe {
                let y = y.slice(row * cols, cols);
                let (m, r) = normalize_row(&x[row * cols..][..cols], gamma, beta, eps, y);
                if let Some(mean) = &mean {
                    *mean.get().add(row) = m;
                }
                if let Some(rstd) = &rstd {
                    *rstd.get().add(row) = r;
                }
            }
        }
    });
}

/// Gradients of [`layer_norm`]; `dgamma` and `dbeta` are overwritten, and `dx` unless it is added `onto` what is there.
pub fn layer_norm_backward(
    dy: &[f32],
    x: &[f32],
    gamma: &[f32],
    mean: &[f32],
    rstd: &[f32],
    cols: usize,
    onto: bool,
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let rows = row_count("layer_norm_backward", x.len(), cols);
    assert!(dy.len() == x.len() && dx.len() == x.len(), "layer_norm_backward: dy, x and dx differ in length");
    assert!(mean.len() == rows && rstd.len() == rows, "layer_norm_backward: one mean and rstd per row");
    assert!(
        gamma.len() == cols && dgamma.len() == cols && dbeta.len() == cols,
        "layer_norm_backward: gamma, dgamma and dbeta have one element per column"
    );
    let dx = SendPtr(dx.as_mut_ptr());
    let mut sums = vec![0.0; 2 * cols];
    sum_rows_by(rows, 2 * cols, &mut sums, |range, sums| {
        let (dgamma, dbeta) = sums.split_at_mut(cols);
        for row in range {
            let (dy, x) = (&dy[row * cols..][..cols], &x[row * cols..][..cols]);
            // SAFETY: the ranges of rows are disjoint, and dx is as long as x.
            let dx = unsafe { dx.slice(row * cols, cols) };
            backward_row(dy, x, gamma, mean[row], rstd[row], onto, dx);
            add_parameter_gradients(dy, x, mean[row], rstd[row], dgamma, dbeta);
        }
    });
    dgamma.copy_from_slice(&sums[..cols]);
    dbeta.copy_from_slice(&sums[cols..]);
}
