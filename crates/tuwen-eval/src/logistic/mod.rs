//! Multinomial logistic regression by L-BFGS, as scikit-learn's `LogisticRegression` does it.
//!
//! What is minimised is `½ |W|² + C Σ cross entropy` over the samples; the intercepts have no penalty. It is computed in
//! f64, over features in f32, in parts that do not depend on the number of threads: the same data give the same bits.
//! The solver works in coordinates of its own, which change the path and not its end.

use std::sync::{Mutex, PoisonError};

use argmin::core::{CostFunction, Error, Executor, Gradient, State, TerminationReason, TerminationStatus};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use tuwen::Embeddings;

mod objective;
mod preconditioner;

use objective::Objective;
use preconditioner::{Moments, Preconditioner};

/// Steps that L-BFGS remembers; what scipy does, on which scikit-learn stands.
const MEMORY: usize = 10;

/// How a classifier is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogisticRegression {
    /// The weight of the data against the penalty, above 0.
    pub c: f64,
    /// Iterations of L-BFGS at most.
    pub max_iter: u64,
    /// Ends when the length of the gradient, as the Hessian measures it, is below this. Half its square is about how far
    /// the mean cross entropy is above its minimum, whatever the scale of the features.
    pub tolerance: f64,
}

impl Default for LogisticRegression {
    /// scikit-learn's C, the paper's number of iterations.
    fn default() -> Self {
        Self { c: 1.0, max_iter: 1000, tolerance: 1e-4 }
    }
}

/// A fitted classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// `[classes, dim]`, row by row.
    pub coef: Vec<f64>,
    /// One for each class; their mean is 0, since a common shift changes nothing.
    pub intercept: Vec<f64>,
    /// `½ |W|² + C Σ cross entropy`.
    pub objective: f64,
    /// Iterations of L-BFGS.
    pub iterations: u64,
    /// Whether the tolerance was reached.
    pub converged: bool,
}

/// Features and the class of each, for fits of several strengths.
pub struct Training<'a> {
    features: &'a Embeddings,
    labels: &'a [usize],
    classes: usize,
    moments: Moments,
}

impl<'a> Training<'a> {
    /// Features and the class of each, a number below `classes`.
    ///
    /// # Panics
    /// If a label is not below `classes`, or there is not one for each row.
    pub fn new(features: &'a Embeddings, labels: &'a [usize], classes: usize) -> Self {
        assert!(labels.len() == features.len() && labels.iter().all(|&label| label < classes));
        Self { features, labels, classes, moments: Moments::of(features) }
    }
}

impl LogisticRegression {
    /// Fits a classifier; `from`, where given, is a fit of the same shape to begin at.
    pub fn fit(&self, training: &Training<'_>, from: Option<&Fit>) -> Fit {
        let &Training { features, labels, classes, ref moments } = training;
        let dim = features.dim();
        let objective = Objective::new(features, labels, classes, self.c);
        let scale = objective.scale();
        let preconditioner = moments.preconditioner(classes, scale);
        let mut begin = match from {
            Some(fit) => [&fit.coef[..], &fit.intercept].concat(),
            None => vec![0.0; classes * (dim + 1)],
        };
        preconditioner.to_solver(&mut begin);
        let problem = Remembering {
            objective: &objective,
            preconditioner: &preconditioner,
            latest: Mutex::default(),
            best: Mutex::default(),
        };
        let (iterations, converged) = minimise(&problem, begin.clone(), self.max_iter, self.tolerance);
        let best = problem.best.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (mut param, value) = best.map_or((begin, f64::NAN), |best| (best.param, best.value));
        preconditioner.to_weights(&mut param);
        let (coef, intercept) = param.split_at(classes * dim);
        let shift = intercept.iter().sum::<f64>() / classes as f64;
        Fit {
            coef: coef.to_vec(),
            intercept: intercept.iter().map(|b| b - shift).collect(),
            objective: value / scale,
            iterations,
            converged,
        }
    }
}

impl Fit {
    /// Bytes that fitting takes besides the features, about.
    pub fn memory(dim: usize, classes: usize) -> u64 {
        // Steps and gradients that are remembered, a few vectors of the solver, the gradients of the parts.
        let vectors = 2 * MEMORY + 12 + objective::PARTS;
        let matrices = 4 * dim as u64 * dim as u64;
        (vectors as u64 * (classes as u64 * (dim as u64 + 1)) + matrices) * size_of::<f64>() as u64
    }
}

/// Iterations, and whether the tolerance was reached.
fn minimise(problem: &Remembering<'_>, begin: Vec<f64>, max_iter: u64, tolerance: f64) -> (u64, bool) {
    let run = || -> Result<(u64, bool), Error> {
        // The constants of scipy's line search are those of the algorithm's authors; so are argmin's.
        let line_search = MoreThuenteLineSearch::new();
        let solver =
            LBFGS::new(line_search, MEMORY).with_tolerance_grad(tolerance)?.with_tolerance_cost(0.0)?;
        let result =
            Executor::new(problem, solver).configure(|state| state.param(begin).max_iters(max_iter)).run()?;
        let stopped = result.state().get_termination_status();
        let converged = *stopped == TerminationStatus::Terminated(TerminationReason::SolverConverged);
        Ok((result.state().get_iter(), converged))
    };
    // The line search fails where rounding leaves nothing to descend: the best point so far is the minimum then.
    run().unwrap_or((max_iter, false))
}

/// A point, and the objective and its gradient there, in the coordinates of the solver.
#[derive(Clone)]
struct Evaluation {
    param: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// The solver asks for value and gradient of a point one after the other; they are computed together, once.
struct Remembering<'a> {
    objective: &'a Objective<'a>,
    preconditioner: &'a Preconditioner<'a>,
    latest: Mutex<Option<Evaluation>>,
    best: Mutex<Option<Evaluation>>,
}

impl Remembering<'_> {
    fn at<T>(&self, param: &[f64], take: impl FnOnce(&Evaluation) -> T) -> T {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = latest.as_ref().filter(|known| known.param == param) {
            return take(known);
        }
        let mut weights = param.to_vec();
        self.preconditioner.to_weights(&mut weights);
        let (value, mut gradient) = self.objective.evaluate(&weights);
        self.preconditioner.gradient_to_solver(&mut gradient);
        let evaluation = Evaluation { param: param.to_vec(), value, gradient };
        let mut best = self.best.lock().unwrap_or_else(PoisonError::into_inner);
        if best.as_ref().is_none_or(|best| evaluation.value < best.value) {
            *best = Some(evaluation.clone());
        }
        take(latest.insert(evaluation))
    }
}

impl CostFunction for &Remembering<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, param: &Vec<f64>) -> Result<f64, Error> {
        Ok(self.at(param, |evaluation| evaluation.value))
    }
}

impl Gradient for &Remembering<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, param: &Vec<f64>) -> Result<Vec<f64>, Error> {
        Ok(self.at(param, |evaluation| evaluation.gradient.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points around the corners of a triangle.
    fn points() -> (Embeddings, Vec<usize>) {
        let labels: Vec<usize> = (0..90).map(|i| i % 3).collect();
        let noise = |i: usize| ((i * i) as f32 * 0.7).sin();
        let corner = [[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]];
        let point =
            |(i, &label): (usize, &usize)| [corner[label][0] + noise(i), corner[label][1] + noise(i + 7)];
        (Embeddings::new(labels.iter().enumerate().flat_map(point).collect(), 2), labels)
    }

    #[test]
    fn threads_and_the_beginning_change_nothing_that_matters() {
        let (features, labels) = points();
        let training = Training::new(&features, &labels, 3);
        let settings = LogisticRegression { tolerance: 1e-9, ..LogisticRegression::default() };
        let fit = settings.fit(&training, None);
        assert!(fit.converged && fit.iterations > 3, "{fit:?}");
        tuwen_kernels::set_threads(3);
        assert_eq!(settings.fit(&training, None), fit, "bit for bit");
        tuwen_kernels::set_threads(0);
        let other = LogisticRegression { c: 100.0, ..settings }.fit(&training, None);
        let again = settings.fit(&training, Some(&other));
        assert!((again.objective - fit.objective).abs() < 1e-9 * fit.objective);
        assert!(fit.coef.iter().zip(&again.coef).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn too_few_iterations_are_said() {
        let (features, labels) = points();
        let fit = LogisticRegression { max_iter: 2, ..LogisticRegression::default() };
        let fit = fit.fit(&Training::new(&features, &labels, 3), None);
        assert!(!fit.converged && fit.iterations == 2);
    }
}
