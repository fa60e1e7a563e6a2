//! The objective of logistic regression and its gradient, summed over parts of the data on all threads.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use tuwen::Embeddings;
use tuwen_kernels::parallel_chunks_mut;

/// Parts of the data, each summed by one thread in the same order whatever the number of threads.
pub(super) const PARTS: usize = 8;
/// Rows that are multiplied at once: their f64 copy and their logits fit into a cache.
const BLOCK: usize = 256;

/// `(½ |W|² + C Σ cross entropy) / (C · samples)`: scaled like this the first steps are of length about 1.
pub(super) struct Objective<'a> {
    features: &'a Embeddings,
    labels: &'a [usize],
    classes: usize,
    c: f64,
}

/// The sum over a part of the data.
struct Part {
    loss: f64,
    gradient: Vec<f64>,
}

impl<'a> Objective<'a> {
    pub fn new(features: &'a Embeddings, labels: &'a [usize], classes: usize, c: f64) -> Self {
        Self { features, labels, classes, c }
    }

    /// What the objective is multiplied by.
    pub fn scale(&self) -> f64 {
        1.0 / (self.c * self.labels.len() as f64)
    }

    /// The objective and its gradient at `[classes, dim]` weights, row by row, and an intercept for each class.
    pub fn evaluate(&self, param: &[f64]) -> (f64, Vec<f64>) {
        let part = || Part { loss: 0.0, gradient: vec![0.0; param.len()] };
        let mut parts: Vec<Part> = (0..PARTS).map(|_| part()).collect();
        parallel_chunks_mut(&mut parts, 1, |i, part| self.add(param, i, &mut part[0]));
        let samples = self.labels.len() as f64;
        let penalised = self.classes * self.features.dim();
        let penalty = self.scale();
        let squares: f64 = param[..penalised].iter().map(|w| w * w).sum();
        let mut value = 0.5 * penalty * squares;
        let mut gradient: Vec<f64> = param[..penalised].iter().map(|w| penalty * w).collect();
        gradient.resize(param.len(), 0.0);
        for part in parts {
            value += part.loss / samples;
            gradient.iter_mut().zip(&part.gradient).for_each(|(sum, g)| *sum += g / samples);
        }
        (value, gradient)
    }

    /// Adds the losses and gradients of a part of the samples.
    fn add(&self, param: &[f64], number: usize, part: &mut Part) {
        let (dim, classes, samples) = (self.features.dim(), self.classes, self.labels.len());
        let (coef, intercept) = param.split_at(classes * dim);
        let (coef_gradient, intercept_gradient) = part.gradient.split_at_mut(classes * dim);
        let (Ok(coef), Ok(mut coef_gradient)) = (
            ArrayView2::from_shape((classes, dim), coef),
            ArrayViewMut2::from_shape((classes, dim), coef_gradient),
        ) else {
            return;
        };
        let mut rows = Array2::<f64>::zeros((BLOCK, dim));
        let mut logits = Array2::<f64>::zeros((BLOCK, classes));
        let (first, end) = (samples * number / PARTS, samples * (number + 1) / PARTS);
        for start in (first..end).step_by(BLOCK) {
            let labels = &self.labels[start..end.min(start + BLOCK)];
            let values = &self.features.values()[start * dim..(start + labels.len()) * dim];
            let mut rows = rows.slice_mut(s![..labels.len(), ..]);
            rows.iter_mut().zip(values).for_each(|(row, &value)| *row = f64::from(value));
            let mut logits = logits.slice_mut(s![..labels.len(), ..]);
            general_mat_mul(1.0, &rows, &coef.t(), 0.0, &mut logits);
            for (mut logits, &label) in logits.rows_mut().into_iter().zip(labels) {
                logits.iter_mut().zip(intercept).for_each(|(logit, b)| *logit += b);
                let row = logits.as_slice_mut().unwrap_or_default();
                part.loss += residual(row, label);
                intercept_gradient.iter_mut().zip(&*row).for_each(|(sum, g)| *sum += g);
            }
            general_mat_mul(1.0, &logits.t(), &rows, 1.0, &mut coef_gradient);
        }
    }
}

/// Cross entropy of a row of logits, which becomes its gradient: probabilities, less 1 for the right class.
fn residual(logits: &mut [f64], label: usize) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let right = logits[label] - largest;
    logits.iter_mut().for_each(|logit| *logit = (*logit - largest).exp());
    let sum: f64 = logits.iter().sum();
    logits.iter_mut().for_each(|p| *p /= sum);
    logits[label] -= 1.0;
    sum.ln() - right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_that_of_the_value() {
        // More samples than one block in each part.
        let (samples, dim, classes) = (PARTS * (BLOCK + 3), 3, 4);
        let values = (0..samples * dim).map(|i| (i as f32 * 0.37).sin()).collect();
        let features = Embeddings::new(values, dim);
        let labels: Vec<usize> = (0..samples).map(|i| (i * i) % classes).collect();
        let objective = Objective::new(&features, &labels, classes, 0.3);
        let param: Vec<f64> = (0..classes * (dim + 1)).map(|i| (i as f64 * 1.3).cos()).collect();
        let (_, gradient) = objective.evaluate(&param);
        for i in 0..param.len() {
            let moved = |by: f64| {
                let mut param = param.clone();
                param[i] += by;
                objective.evaluate(&param).0
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((slope - gradient[i]).abs() < 1e-8, "{i}: {slope} {}", gradient[i]);
        }
    }
}
