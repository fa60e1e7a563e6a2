//! Linear probes: logistic regression on frozen features, as in CLIP's paper.

use tuwen::{Embeddings, ImageFeatures, LinearClassifier};
use tuwen_data::rng::Rng;

use super::search::{self, Trial};
use crate::logistic::{Fit, LogisticRegression, Training};
use crate::{Classes, Encoded, EvalError, Metrics, metrics};

/// Features and the class of each row.
#[derive(Clone, Debug)]
pub struct Samples {
    /// A row for each sample.
    pub features: Embeddings,
    /// Places among the classes.
    pub labels: Vec<usize>,
}

/// How the strength of the penalty is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strength {
    /// This weight of the data against the penalty.
    Given(f64),
    /// The paper's search over 96 values, by accuracy on validation samples.
    Searched,
}

/// How a probe is fitted.
#[derive(Clone, Copy, Debug)]
pub struct LinearProbe {
    /// The strength of the penalty.
    pub strength: Strength,
    /// Iterations of L-BFGS at most.
    pub max_iter: u64,
    /// See [`LogisticRegression`].
    pub tolerance: f64,
}

/// A fitted probe.
#[derive(Clone, Debug)]
pub struct Probed {
    /// The fit to all samples that were learnt from.
    pub fit: Fit,
    /// The weight of the data against the penalty.
    pub c: f64,
    /// What was tried to find it.
    pub trials: Vec<Trial>,
}

impl Samples {
    /// The samples of a data set.
    ///
    /// # Errors
    /// A sample whose class is not among these.
    pub fn of(encoded: Encoded, classes: &Classes) -> Result<Self, EvalError> {
        let labels = classes.places(&encoded.samples, &encoded.data)?;
        Ok(Self { features: encoded.images, labels })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Metrics of a probe on these samples, by the logarithms of its probabilities.
    pub fn metrics(&self, classifier: &LinearClassifier) -> Metrics {
        metrics::classification(&metrics::log_softmax(classifier.logits(&self.features)), &self.labels)
    }

    fn select(&self, rows: &[usize]) -> Self {
        let dim = self.features.dim();
        let row = |&row: &usize| &self.features.values()[row * dim..(row + 1) * dim];
        let features = Embeddings::new(rows.iter().flat_map(row).copied().collect(), dim);
        Self { features, labels: rows.iter().map(|&row| self.labels[row]).collect() }
    }

    fn joined(&self, other: &Self) -> Self {
        let values = [self.features.values(), other.features.values()].concat();
        let labels = [&self.labels[..], &other.labels].concat();
        Self { features: Embeddings::new(values, self.features.dim()), labels }
    }
}

/// Takes a share of the samples of each class away for validation, at least one where a class has two: what stays, and
/// what was taken. The seed decides which.
pub fn split(samples: &Samples, share: f64, seed: u64) -> (Samples, Samples) {
    let classes = samples.labels.iter().max().map_or(0, |last| last + 1);
    let mut of_class = vec![Vec::new(); classes];
    samples.labels.iter().enumerate().for_each(|(row, &label)| of_class[label].push(row));
    let (mut kept, mut taken) = (Vec::new(), Vec::new());
    for (class, mut rows) in of_class.into_iter().enumerate() {
        Rng::new(&[seed, class as u64]).shuffle(&mut rows);
        let most = rows.len().saturating_sub(1);
        let count = ((rows.len() as f64 * share).round() as usize).clamp(most.min(1), most);
        taken.extend_from_slice(&rows[..count]);
        kept.extend_from_slice(&rows[count..]);
    }
    for rows in [&mut kept, &mut taken] {
        rows.sort_unstable();
    }
    (samples.select(&kept), samples.select(&taken))
}

impl LinearProbe {
    /// Fits a probe. A search fits to `train`, chooses by `validation`, and fits again to both; a given strength is
    /// fitted to both at once. `tried` hears of each trial.
    ///
    /// # Errors
    /// Fewer than two classes, or a strength that is not above 0.
    pub fn fit(
        &self,
        train: &Samples,
        validation: Option<&Samples>,
        classes: usize,
        tried: &mut dyn FnMut(f64, &Fit),
    ) -> Result<Probed, EvalError> {
        if classes < 2 {
            return Err(EvalError::OneClass { data: "the training set".into(), count: classes });
        }
        let (c, trials) = match (self.strength, validation) {
            (Strength::Given(c), _) if c > 0.0 && c.is_finite() => (c, Vec::new()),
            (Strength::Given(c), _) => {
                return Err(EvalError::Setting(format!("C is {c}; it has to be above 0")));
            }
            (Strength::Searched, None) => {
                return Err(EvalError::Setting("a search for C needs validation samples".into()));
            }
            (Strength::Searched, Some(validation)) => {
                let trials = self.search(train, validation, classes, tried);
                (search::best(&trials).map_or(1.0, |best| best.c), trials)
            }
        };
        let settings = self.regression(c);
        let fit = match validation {
            Some(validation) => {
                let both = train.joined(validation);
                settings.fit(&Training::new(&both.features, &both.labels, classes), None)
            }
            None => settings.fit(&Training::new(&train.features, &train.labels, classes), None),
        };
        tried(c, &fit);
        Ok(Probed { fit, c, trials })
    }

    fn regression(&self, c: f64) -> LogisticRegression {
        LogisticRegression { c, max_iter: self.max_iter, tolerance: self.tolerance }
    }

    fn search(
        &self,
        train: &Samples,
        validation: &Samples,
        classes: usize,
        tried: &mut dyn FnMut(f64, &Fit),
    ) -> Vec<Trial> {
        // The fit of a neighbour is a good beginning.
        let mut latest: Option<Fit> = None;
        let training = Training::new(&train.features, &train.labels, classes);
        search::search(|c| {
            let fit = self.regression(c).fit(&training, latest.as_ref());
            tried(c, &fit);
            let scores = fit.logits(&validation.features);
            let outcome = (metrics::top_k(&scores, &validation.labels, 1), fit.iterations, fit.converged);
            latest = Some(fit);
            outcome
        })
    }
}

impl Fit {
    /// Scores before the softmax: a row for each sample.
    pub fn logits(&self, features: &Embeddings) -> Vec<Vec<f32>> {
        let labels = self.intercept.iter().map(|_| String::new()).collect();
        self.classifier(labels, ImageFeatures::default(), features.dim()).logits(features)
    }

    /// The classifier that was fitted to features of a width, in f32.
    pub fn classifier(&self, labels: Vec<String>, features: ImageFeatures, dim: usize) -> LinearClassifier {
        let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect::<Vec<f32>>();
        let weight = Embeddings::new(narrow(&self.coef), dim);
        LinearClassifier::new(labels, features, weight, narrow(&self.intercept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(labels: Vec<usize>) -> Samples {
        let values = labels
            .iter()
            .enumerate()
            .flat_map(|(i, &label)| [label as f32 + 0.3 * (i as f32 * 1.7).sin(), (i as f32 * 0.9).cos()]);
        Samples { features: Embeddings::new(values.collect(), 2), labels }
    }

    #[test]
    fn a_split_takes_of_each_class() {
        let samples = samples((0..50).map(|i| if i < 40 { i % 2 } else { 2 }).chain([3, 4, 4]).collect());
        let (train, validation) = split(&samples, 0.1, 5);
        let counts = |samples: &Samples| {
            [0, 1, 2, 3, 4].map(|class| samples.labels.iter().filter(|&&l| l == class).count())
        };
        assert_eq!((counts(&train), counts(&validation)), ([18, 18, 9, 1, 1], [2, 2, 1, 0, 1]));
        assert_eq!(split(&samples, 0.1, 5).1.features, validation.features);
        assert_ne!(split(&samples, 0.1, 6).1.features, validation.features);
    }

    #[test]
    fn a_search_ends_with_a_fit_to_everything() {
        let all = samples((0..120).map(|i| i % 3).collect());
        let (train, validation) = split(&all, 0.2, 0);
        let probe = LinearProbe { strength: Strength::Searched, max_iter: 200, tolerance: 1e-6 };
        let mut heard = Vec::new();
        let found = probe.fit(&train, Some(&validation), 3, &mut |c, _| heard.push(c)).expect("fitted");
        assert!(found.trials.len() > 7 && heard.len() == found.trials.len() + 1);
        assert_eq!(heard.last(), Some(&found.c));
        let given = LinearProbe { strength: Strength::Given(found.c), ..probe };
        let given = given.fit(&train.joined(&validation), None, 3, &mut |_, _| ()).expect("fitted");
        assert_eq!(given.fit, found.fit);
        let classifier = found.fit.classifier(vec![String::new(); 3], ImageFeatures::Pooled, 2);
        assert!(all.metrics(&classifier)["top1"] > 90.0);
    }

    #[test]
    fn senseless_settings_are_refused() {
        let all = samples(vec![0, 1, 0, 1]);
        let probe = |strength| LinearProbe { strength, max_iter: 10, tolerance: 1e-4 };
        for (strength, classes, expected) in [
            (Strength::Given(0.0), 2, "C is 0"),
            (Strength::Given(f64::NAN), 2, "C is NaN"),
            (Strength::Searched, 2, "needs validation"),
            (Strength::Given(1.0), 1, "needs two"),
        ] {
            let error = probe(strength).fit(&all, None, classes, &mut |_, _| ()).expect_err("refused");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
