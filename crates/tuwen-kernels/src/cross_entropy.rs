//! Cross entropy over rows of logits: of a softmax, and of independent sigmoids.
//!
//! Loss and gradient come out of one visit to a row: the softmax is written where the gradient goes, and the target is taken
//! off there. The exponential is the limit.

use crate::math::{exp, log1p, max, sigmoid, sum_of};
use crate::softmax::softmax_row;
use crate::threads::{CHUNK, SendPtr, parallel_for};

/// What each row of logits should have been.
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a> {
    /// The right class of each row.
    Classes(&'a [u32]),
    /// The right class of each row, of whose weight of one this part is shared among all classes (label smoothing).
    Smoothed(&'a [u32], f32),
    /// A weight for each class of each row, shaped as the logits.
    Soft(&'a [f32]),
}

/// What one row of logits should have been.
#[derive(Clone, Copy)]
enum Target<'a> {
    Class(usize),
    Smoothed(usize, f32),
    Soft(&'a [f32]),
}

multiversion! {
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

    fn subtract(dlogits: &mut [f32], value: f32) {
        dlogits.iter_mut().for_each(|d| *d -= value);
    }

    fn subtract_soft(dlogits: &mut [f32], target: &[f32], total: f32) {
        dlogits.iter_mut().zip(target).for_each(|(d, t)| *d = *d * total - t);
    }

    /// `Σ ln(1 + e^x)`, in a form that neither overflows nor loses small terms.
    fn softplus_sum(x: &[f32]) -> f32 {
        sum_of([x], |[x]| (if x > 0.0 { x } else { 0.0 }) + log1p(exp(-x.abs())))
    }

    fn sigmoid_row(x: &[f32], y: &mut [f32]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = sigmoid(x));
    }
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
    each_row(logits, targets, cols, loss_per_row, dlogits, |x, target, mut dx| {
        let lse = match &mut dx {
            Some(dx) => softmax_row(x, dx),
            None => log_sum_exp(x),
        };
        match target {
            Target::Class(class) => {
                if let Some(dx) = dx {
                    dx[class] -= 1.0;
                }
                lse - x[class]
            }
            Target::Smoothed(class, shared) => {
                let each = shared / cols as f32;
                if let Some(dx) = dx {
                    subtract(dx, each);
                    dx[class] -= 1.0 - shared;
                }
                lse - (1.0 - shared) * x[class] - each * sum_row(x)
            }
            Target::Soft(weights) => {
                let total = sum_row(weights);
                if let Some(dx) = dx {
                    subtract_soft(dx, weights, total);
                }
                lse * total - dot_row(weights, x)
            }
        }
    });
}

/// The loss `-Σ target · log σ(logit) + (1 - target) · log(1 - σ(logit))` of each row, each logit being a question of
/// its own, and where asked for its gradient with respect to the logits, `σ(logits) - target`. Neither is averaged.
pub fn binary_cross_entropy(
    logits: &[f32],
    targets: Targets,
    cols: usize,
    loss_per_row: &mut [f32],
    dlogits: Option<&mut [f32]>,
) {
    each_row(logits, targets, cols, loss_per_row, dlogits, |x, target, mut dx| {
        if let Some(dx) = &mut dx {
            sigmoid_row(x, dx);
        }
        match target {
            Target::Class(class) => {
                if let Some(dx) = dx {
                    dx[class] -= 1.0;
                }
                softplus_sum(x) - x[class]
            }
            Target::Smoothed(class, shared) => {
                let each = shared / cols as f32;
                if let Some(dx) = dx {
                    subtract(dx, each);
                    dx[class] -= 1.0 - shared;
                }
                softplus_sum(x) - (1.0 - shared) * x[class] - each * sum_row(x)
            }
            Target::Soft(weights) => {
                if let Some(dx) = dx {
                    subtract_soft(dx, weights, 1.0);
                }
                softplus_sum(x) - dot_row(weights, x)
            }
        }
    });
}

/// Calls `loss(logits, target, dlogits)` for each row, rows in parallel.
fn each_row(
    logits: &[f32],
    targets: Targets,
    cols: usize,
    loss_per_row: &mut [f32],
    dlogits: Option<&mut [f32]>,
    loss: impl Fn(&[f32], Target, Option<&mut [f32]>) -> f32 + Sync,
) {
    let rows = loss_per_row.len();
    check(logits, targets, rows, cols);
    if let Some(dlogits) = &dlogits {
        assert_eq!(dlogits.len(), logits.len(), "cross entropy: dlogits are shaped as the logits");
    }
    let losses = SendPtr(loss_per_row.as_mut_ptr());
    let dlogits = dlogits.map(|d| SendPtr(d.as_mut_ptr()));
    let rows_per_task = (CHUNK / cols.max(1)).max(1);
    parallel_for(rows.div_ceil(rows_per_task), |task| {
        for row in task * rows_per_task..rows.min((task + 1) * rows_per_task) {
            let x = &logits[row * cols..][..cols];
            let target = match targets {
                Targets::Classes(classes) => Target::Class(classes[row] as usize),
                Targets::Smoothed(classes, shared) => Target::Smoothed(classes[row] as usize, shared),
                Targets::Soft(weights) => Target::Soft(&weights[row * cols..][..cols]),
            };
            // SAFETY: each row belongs to one task; the lengths were checked.
            let (loss_of_row, dx) = unsafe {
                (&mut losses.slice(row, 1)[0], dlogits.as_ref().map(|d| d.slice(row * cols, cols)))
            };
            *loss_of_row = loss(x, target, dx);
        }
    });
}

fn check(logits: &[f32], targets: Targets, rows: usize, cols: usize) {
    assert_eq!(logits.len(), rows * cols, "cross entropy: logits are not [{rows}, {cols}]");
    match targets {
        Targets::Classes(classes) | Targets::Smoothed(classes, _) => {
            assert_eq!(classes.len(), rows, "cross entropy: one class per row");
            if let Some(class) = classes.iter().find(|&&class| class as usize >= cols) {
                panic!("cross entropy: class {class} of {cols}");
            }
        }
        Targets::Soft(weights) => {
            assert_eq!(weights.len(), logits.len(), "cross entropy: soft targets are shaped as the logits");
        }
    }
}
