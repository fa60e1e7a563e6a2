//! Softmax and softmax cross entropy over rows.

use crate::math::{exp, max, sum_of};
use crate::threads::{CHUNK, SendPtr, parallel_chunks_mut, parallel_for};

/// What each row of logits should have been.
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a> {
    /// The right class of each row.
    Classes(&'a [u32]),
    /// A weight for each class of each row, shaped as the logits.
    Soft(&'a [f32]),
}

multiversion! {
    /// Softmax of one row; the log of the sum of exponentials is returned.
    fn softmax_row(x: &[f32], y: &mut [f32]) -> f32 {
        let largest = max(x);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = exp(x - largest);
        }
        let total = sum_of([y], |[y]| y);
        let factor = 1.0 / total;
        y.iter_mut().for_each(|y| *y *= factor);
        largest + total.ln()
    }

    fn log_sum_exp(x: &[f32]) -> f32 {
        let largest = max(x);
        largest + sum_of([x], |[x]| exp(x - largest)).ln()
    }

    fn sum_row(x: &[f32]) -> f32 {
        sum_of([x], |[x]| x)
    }

    fn dot_row(a: &[f32], b: &[f32]) -> f32 {
        sum_of([a, b], |[a, b]| a * b)
    }

    fn subtract_soft(dlogits: &mut [f32], target: &[f32], total: f32) {
        dlogits.iter_mut().zip(target).for_each(|(d, t)| *d = *d * total - t);
    }
}

/// Softmax of each row of `cols` elements.
pub fn softmax(x: &[f32], cols: usize, y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "softmax: x and y differ in length");
    if x.is_empty() {
        return;
    }
    assert!(cols > 0 && x.len().is_multiple_of(cols), "softmax: {} elements are not rows of {cols}", x.len());
    let chunk = (CHUNK / cols).max(1) * cols;
    parallel_chunks_mut(y, chunk, |i, y| {
        for (y, x) in y.chunks_exact_mut(cols).zip(x[i * chunk..].chunks_exact(cols)) {
            softmax_row(x, y);
        }
    });
}

/// The loss `-Σ target · log softmax(logits)` of each row, and where asked for its gradient with respect to the
/// logits, `softmax(logits) · Σ target - target`. Neither is averaged over rows.
pub fn cross_entropy(
    logits: &[f32],
    targets: Targets,
    cols: usize,
    loss_per_row: &mut [f32],
    dlogits: Option<&mut [f32]>,
) {
    let rows = loss_per_row.len();
    assert_eq!(logits.len(), rows * cols, "cross_entropy: logits are not [{rows}, {cols}]");
    match targets {
        Targets::Classes(classes) => {
            assert_eq!(classes.len(), rows, "cross_entropy: one class per row");
            if let Some(class) = classes.iter().find(|&&class| class as usize >= cols) {
                panic!("cross_entropy: class {class} of {cols}");
            }
        }
        Targets::Soft(weights) => {
            assert_eq!(weights.len(), logits.len(), "cross_entropy: soft targets are shaped as the logits");
        }
    }
    if let Some(dlogits) = &dlogits {
        assert_eq!(dlogits.len(), logits.len(), "cross_entropy: dlogits are shaped as the logits");
    }
    let losses = SendPtr(loss_per_row.as_mut_ptr());
    let dlogits = dlogits.map(|d| SendPtr(d.as_mut_ptr()));
    let rows_per_task = (CHUNK / cols.max(1)).max(1);
    parallel_for(rows.div_ceil(rows_per_task), |task| {
        for row in task * rows_per_task..rows.min((task + 1) * rows_per_task) {
            let x = &logits[row * cols..][..cols];
            // SAFETY: each row belongs to one task; the lengths were checked.
            let (loss, mut dx) = unsafe {
                (&mut losses.slice(row, 1)[0], dlogits.as_ref().map(|d| d.slice(row * cols, cols)))
            };
            let lse = match &mut dx {
                Some(dx) => softmax_row(x, dx),
                None => log_sum_exp(x),
            };
            match targets {
                Targets::Classes(classes) => {
                    let class = classes[row] as usize;
                    *loss = lse - x[class];
                    if let Some(dx) = dx {
                        dx[class] -= 1.0;
                    }
                }
                Targets::Soft(weights) => {
                    let target = &weights[row * cols..][..cols];
                    let total = sum_row(target);
                    *loss = lse * total - dot_row(target, x);
                    if let Some(dx) = dx {
                        subtract_soft(dx, target, total);
                    }
                }
            }
        }
    });
}
