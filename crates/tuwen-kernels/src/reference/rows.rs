//! Definitions of operations on rows and axes.

use super::{Real, erf};
use crate::activation::{Activation, QUICK_GELU_SLOPE};

/// An activation of one number.
pub fn activate<R: Real>(activation: Activation, x: R) -> R {
    let one = R::of(1.0);
    let sigmoid = |x: R| one / (one + (-x).exp());
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(R::of(0.0)),
        Activation::Gelu => R::of(0.5) * x * (one + R::of(erf(x.to_f64() * std::f64::consts::FRAC_1_SQRT_2))),
        Activation::QuickGelu => x * sigmoid(R::of(f64::from(QUICK_GELU_SLOPE)) * x),
        Activation::Silu => x * sigmoid(x),
    }
}

/// Softmax of each row of `cols` elements.
pub fn softmax<R: Real>(x: &[R], cols: usize) -> Vec<R> {
    let rows = x.chunks_exact(cols.max(1));
    rows.flat_map(|row| {
        let largest = row.iter().copied().fold(row[0], R::max);
        let total: R = row.iter().map(|&x| (x - largest).exp()).sum();
        row.iter().map(move |&x| (x - largest).exp() / total)
    })
    .collect()
}

/// `-Σ target · log softmax(logits)` of each row.
pub fn cross_entropy<R: Real>(logits: &[R], targets: &[R], cols: usize) -> Vec<R> {
    logits
        .chunks_exact(cols.max(1))
        .zip(targets.chunks_exact(cols.max(1)))
        .map(|(row, target)| {
            let largest = row.iter().copied().fold(row[0], R::max);
            let lse = largest + row.iter().map(|&x| (x - largest).exp()).sum::<R>().ln();
            row.iter().zip(target).map(|(&x, &t)| t * (lse - x)).sum()
        })
        .collect()
}

/// `-Σ target · log σ(logit) + (1 - target) · log(1 - σ(logit))` of each row.
pub fn binary_cross_entropy<R: Real>(logits: &[R], targets: &[R], cols: usize) -> Vec<R> {
    let softplus = |x: R| x.max(R::of(0.0)) + (R::of(1.0) + (-x.max(-x)).exp()).ln();
    let question = |(&x, &t): (&R, &R)| softplus(x) - t * x;
    let rows = logits.chunks_exact(cols.max(1)).zip(targets.chunks_exact(cols.max(1)));
    rows.map(|(row, target)| row.iter().zip(target).map(question).sum()).collect()
}

fn mean<R: Real>(values: impl ExactSizeIterator<Item = R>) -> R {
    let count = R::of(values.len() as f64);
    values.sum::<R>() / count
}

/// Layer normalisation of each row of `gamma.len()` elements: y, mean and reciprocal standard deviation.
pub fn layer_norm<R: Real>(x: &[R], gamma: &[R], beta: &[R], eps: f64) -> (Vec<R>, Vec<R>, Vec<R>) {
    let (mut y, mut means, mut rstds) = (Vec::new(), Vec::new(), Vec::new());
    for row in x.chunks_exact(gamma.len().max(1)) {
        let mu = mean(row.iter().copied());
        let variance = mean(row.iter().map(|&x| (x - mu) * (x - mu)));
        let rstd = R::of(1.0) / (variance + R::of(eps)).sqrt();
        y.extend(row.iter().zip(gamma).zip(beta).map(|((&x, &g), &b)| (x - mu) * rstd * g + b));
        means.push(mu);
        rstds.push(rstd);
    }
    (y, means, rstds)
}

/// Root-mean-square normalisation of each row of `gamma.len()` elements: y, and the reciprocal root mean square.
pub fn rms_norm<R: Real>(x: &[R], gamma: &[R], eps: f64) -> (Vec<R>, Vec<R>) {
    let (mut y, mut rstds) = (Vec::new(), Vec::new());
    for row in x.chunks_exact(gamma.len().max(1)) {
        let rstd = R::of(1.0) / (mean(row.iter().map(|&x| x * x)) + R::of(eps)).sqrt();
        y.extend(row.iter().zip(gamma).map(|(&x, &g)| x * rstd * g));
        rstds.push(rstd);
    }
    (y, rstds)
}

/// Batch normalisation of `x [rows, gamma.len()]` with a residual and a ReLU: y, mean and biased variance.
pub fn batch_norm_train<R: Real>(
    x: &[R],
    gamma: &[R],
    beta: &[R],
    eps: f64,
    residual: Option<&[R]>,
    relu: bool,
) -> (Vec<R>, Vec<R>, Vec<R>) {
    let channels = gamma.len();
    let rows = x.len() / channels.max(1);
    let means: Vec<R> = (0..channels).map(|c| mean((0..rows).map(|r| x[r * channels + c]))).collect();
    let squared = |r: usize, c: usize| (x[r * channels + c] - means[c]) * (x[r * channels + c] - means[c]);
    let variances: Vec<R> = (0..channels).map(|c| mean((0..rows).map(|r| squared(r, c)))).collect();
    let y = (0..rows * channels).map(|i| {
        let c = i % channels;
        let normal = (x[i] - means[c]) / (variances[c] + R::of(eps)).sqrt() * gamma[c] + beta[c];
        let value = residual.map_or(normal, |r| normal + r[i]);
        if relu { activate(Activation::Relu, value) } else { value }
    });
    (y.collect(), means.clone(), variances)
}

/// `x / max(‖x‖, eps)` of each row of `cols` elements.
pub fn l2_normalize<R: Real>(x: &[R], cols: usize, eps: f64) -> Vec<R> {
    x.chunks_exact(cols.max(1))
        .flat_map(|row| {
            let norm = row.iter().map(|&x| x * x).sum::<R>().sqrt().max(R::of(eps));
            row.iter().map(move |&x| x / norm)
        })
        .collect()
}

/// The mean over the middle axis of `x [outer, len, inner]`.
pub fn mean_axis<R: Real>(x: &[R], outer: usize, len: usize, inner: usize) -> Vec<R> {
    (0..outer * inner).map(|i| mean((0..len).map(|l| x[(i / inner * len + l) * inner + i % inner]))).collect()
}

/// `x` of `shape` with its axes in the order `axes`.
pub fn permute<R: Real>(x: &[R], shape: &[usize], axes: &[usize]) -> Vec<R> {
    (0..x.len())
        .map(|index| {
            let mut rest = index;
            let mut place = vec![0; shape.len()];
            for &axis in axes.iter().rev() {
                place[axis] = rest % shape[axis];
                rest /= shape[axis];
            }
            x[place.iter().zip(shape).fold(0, |offset, (&i, &len)| offset * len + i)]
        })
        .collect()
}
