//! Coordinates in which the objective is about as steep in every direction, so that L-BFGS needs tens of iterations
//! where it would need thousands: features of a network differ a thousandfold in their variances, and are correlated.
//!
//! With the covariance Σ of the features, `A = h Σ + λ I` is the Hessian of a class before anything is learnt
//! (Böhning 1992), `h = (1 - 1/K) / K` for K classes. For its Cholesky factor, `A = L Lᵀ`, the solver works on
//! `U = W L` and on intercepts at the mean of the features; the minimum is the same.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Axis, s};
use tuwen::Embeddings;
use tuwen_kernels::parallel_chunks_mut;

/// Rows that are multiplied at once.
const BLOCK: usize = 256;

/// Mean and covariance of features.
pub(super) struct Moments {
    mean: Vec<f64>,
    covariance: Array2<f64>,
}

/// The change of coordinates.
pub(super) struct Preconditioner<'a> {
    mean: &'a [f64],
    /// L, and its transpose, row by row: either way the inner loops run along rows.
    lower: Array2<f64>,
    upper: Array2<f64>,
}

impl Moments {
    pub fn of(features: &Embeddings) -> Self {
        let (count, dim) = (features.len() as f64, features.dim());
        let mut mean = vec![0.0; dim];
        for row in features.rows() {
            mean.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value) / count);
        }
        let mut covariance = Array2::zeros((dim, dim));
        let mut rows = Array2::<f64>::zeros((BLOCK, dim));
        for block in features.values().chunks(BLOCK * dim) {
            let mut rows = rows.slice_mut(s![..block.len() / dim, ..]);
            let centred = block.iter().zip(mean.iter().cycle()).map(|(&value, mean)| f64::from(value) - mean);
            rows.iter_mut().zip(centred).for_each(|(place, value)| *place = value);
            general_mat_mul(1.0 / count, &rows.t(), &rows, 1.0, &mut covariance);
        }
        Self { mean, covariance }
    }

    /// The coordinates for this many classes and the penalty `½ λ |W|²`.
    pub fn preconditioner(&self, classes: usize, lambda: f64) -> Preconditioner<'_> {
        let dim = self.mean.len();
        let share = 1.0 / classes as f64;
        let mut matrix = &self.covariance * (share * (1.0 - share));
        // Directions without variance have the penalty only, which may be nothing beside the rounding of the others.
        let largest = matrix.diag().iter().copied().fold(0.0, f64::max);
        let least = lambda.max(1e-12 * largest).max(f64::MIN_POSITIVE);
        matrix.diag_mut().iter_mut().for_each(|value| *value += least);
        cholesky(&mut matrix, least);
        let upper = Array2::from_shape_fn((dim, dim), |(i, j)| matrix[(j, i)]);
        Preconditioner { mean: &self.mean, lower: matrix, upper }
    }
}

/// Replaces a symmetric matrix by its lower Cholesky factor; no pivot is taken to be below `least`.
fn cholesky(matrix: &mut Array2<f64>, least: f64) {
    for i in 0..matrix.nrows() {
        let (above, mut below) = matrix.view_mut().split_at(Axis(0), i);
        let mut row = below.row_mut(0);
        for j in 0..i {
            let sum = row.slice(s![..j]).dot(&above.slice(s![j, ..j]));
            row[j] = (row[j] - sum) / above[(j, j)];
        }
        let sum = row.slice(s![..i]).dot(&row.slice(s![..i]));
        row[i] = (row[i] - sum).max(least).sqrt();
        row.slice_mut(s![i + 1..]).fill(0.0);
    }
}

impl Preconditioner<'_> {
    /// From weights and intercepts to the coordinates of the solver, in place.
    pub fn to_solver(&self, param: &mut [f64]) {
        self.shift_intercepts(param, 1.0);
        let dim = self.mean.len();
        let (coef, _) = split(param, dim);
        parallel_chunks_mut(coef, dim, |_, row| {
            // Entry i needs entries from i on only: in place from the front.
            for i in 0..dim {
                row[i] = self.upper.slice(s![i, i..]).iter().zip(&row[i..]).map(|(l, w)| l * w).sum();
            }
        });
    }

    /// From the coordinates of the solver to weights and intercepts, in place.
    pub fn to_weights(&self, param: &mut [f64]) {
        let dim = self.mean.len();
        let (coef, _) = split(param, dim);
        parallel_chunks_mut(coef, dim, |_, row| {
            for i in (0..dim).rev() {
                let value = row[i] / self.lower[(i, i)];
                row[i] = value;
                row[..i].iter_mut().zip(self.lower.slice(s![i, ..i])).for_each(|(u, l)| *u -= value * l);
            }
        });
        self.shift_intercepts(param, -1.0);
    }

    /// From the gradient of weights and intercepts to that of the solver's coordinates, in place.
    pub fn gradient_to_solver(&self, gradient: &mut [f64]) {
        let dim = self.mean.len();
        let (coef, intercept) = split(gradient, dim);
        for (row, g) in coef.chunks_exact_mut(dim).zip(intercept) {
            row.iter_mut().zip(self.mean).for_each(|(value, mean)| *value -= *g * mean);
        }
        parallel_chunks_mut(coef, dim, |_, row| {
            for i in 0..dim {
                let value = row[i] / self.upper[(i, i)];
                row[i] = value;
                let rest = self.upper.slice(s![i, i + 1..]);
                row[i + 1..].iter_mut().zip(rest).for_each(|(g, l)| *g -= value * l);
            }
        });
    }

    /// Moves intercepts between the origin and the mean of the features.
    fn shift_intercepts(&self, param: &mut [f64], sign: f64) {
        let dim = self.mean.len();
        let (coef, intercept) = split(param, dim);
        for (row, b) in coef.chunks_exact(dim).zip(intercept) {
            *b += sign * row.iter().zip(self.mean).map(|(w, mean)| w * mean).sum::<f64>();
        }
    }
}

/// Weights and intercepts of a parameter vector.
fn split(param: &mut [f64], dim: usize) -> (&mut [f64], &mut [f64]) {
    let classes = param.len() / (dim + 1);
    param.split_at_mut(classes * dim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features() -> Embeddings {
        let scales = [100.0, 1.0, 0.01, 1.0];
        let value = |i: usize| scales[i % 4] * ((i as f32 * 0.77).sin() + 0.3);
        Embeddings::new((0..4 * 300).map(value).collect(), 4)
    }

    #[test]
    fn coordinates_lead_back() {
        let (features, param) = (features(), (0..15).map(|i| (f64::from(i) * 0.9).cos()).collect::<Vec<_>>());
        let moments = Moments::of(&features);
        let there = moments.preconditioner(3, 1e-3);
        let mut moved = param.clone();
        there.to_solver(&mut moved);
        assert!((moved[0] - param[0]).abs() > 1.0, "{moved:?}");
        there.to_weights(&mut moved);
        assert!(moved.iter().zip(&param).all(|(a, b)| (a - b).abs() < 1e-9), "{moved:?} {param:?}");
    }

    #[test]
    fn the_factor_is_that_of_the_matrix() {
        let moments = Moments::of(&features());
        let there = moments.preconditioner(2, 0.5);
        let product = there.lower.dot(&there.upper);
        let expected = &moments.covariance * 0.25 + Array2::<f64>::eye(4) * 0.5;
        assert!(product.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9 * b.abs().max(1.0)));
        // A gradient is a linear form: its value on a step is the same in both coordinates.
        let step: Vec<f64> = (0..10).map(|i| f64::from(i) - 4.5).collect();
        let gradient: Vec<f64> = (0..10).map(|i| (f64::from(i) * 1.1).sin()).collect();
        let (mut step_there, mut gradient_there) = (step.clone(), gradient.clone());
        there.to_solver(&mut step_there);
        there.gradient_to_solver(&mut gradient_there);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        assert!((dot(&step, &gradient) - dot(&step_there, &gradient_there)).abs() < 1e-9);
    }

    #[test]
    fn features_without_variance_are_no_obstacle() {
        let moments = Moments::of(&Embeddings::new(vec![1.0; 12], 3));
        let mut param = vec![1.0; 8];
        moments.preconditioner(2, 1e-300).to_solver(&mut param);
        assert!(param.iter().all(|value| value.is_finite()), "{param:?}");
    }
}
