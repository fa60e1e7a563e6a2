//! What the training loop knows of a model, and what it knows of data.

use std::path::Path;

use tuwen_data::loader::{Loader, Share, Survey};
use tuwen_nn::{Parameters, Pass};
use tuwen_tensor::{Gradients, Tensor, ops};

use crate::recipe::{Eval, ExportType};
use crate::{Metrics, Recipe, Settings, TrainError};

/// A term of the loss and its name.
pub type Loss = (&'static str, Tensor);

/// A model together with what it is trained to do.
pub trait Objective {
    /// What a step learns from.
    type Batch;

    /// Everything that is saved and, where trainable, learnt.
    fn parameters(&self) -> &Parameters;

    /// What is worth saying of the model before the first step, a line each: what it begins with.
    fn notes(&self) -> &[String] {
        &[]
    }

    /// Settings of the optimizer: those of the recipe, and the model's own where it has none.
    fn optimizer_settings(&self, recipe: &Recipe) -> Settings;

    /// The terms of the loss of a batch, at least one, on the tape; their sum is minimised.
    fn losses(&self, batch: &Self::Batch, pass: &Pass) -> Result<Vec<Loss>, TrainError>;

    /// The gradients of the sum of the losses of a batch, and the losses.
    fn gradients(&self, batch: &Self::Batch, pass: &Pass) -> Result<(Metrics, Gradients), TrainError> {
        Ok(gradients_of(self.losses(batch, pass)?))
    }

    /// Called after each step of the optimizer.
    fn after_step(&self) {}

    /// Quantities worth watching.
    fn gauges(&self) -> Metrics {
        Metrics::new()
    }

    /// Makes an evaluation of the recipe.
    fn evaluate(&self, recipe: &Recipe, eval: &Eval) -> Result<Metrics, TrainError>;

    /// Writes the model to a directory from which it can be loaded, replacing what is there.
    fn export(&self, directory: &Path, dtype: ExportType) -> Result<(), TrainError>;
}

/// The losses as numbers, and the gradients of their sum.
pub(crate) fn gradients_of(losses: Vec<Loss>) -> (Metrics, Gradients) {
    let named = losses.iter().map(|(name, loss)| ((*name).into(), f64::from(loss.item()))).collect();
    let total = losses.into_iter().map(|(_, loss)| loss).reduce(|a, b| ops::add(&a, &b));
    (named, total.map(Tensor::backward).unwrap_or_default())
}

/// Where batches come from. The same numbers give the same batches.
pub trait BatchSource {
    /// What a step learns from.
    type Batch;

    /// Batches in a pass over the data, if every sample can be read.
    fn batches_per_epoch(&self) -> u64;

    /// The batches of one pass from `first` on.
    fn epoch(&self, epoch: u64, first: u64) -> Box<dyn Iterator<Item = Result<Self::Batch, TrainError>>>;

    /// What reads the samples, if anything does.
    fn loader(&self) -> Option<&Loader> {
        None
    }

    /// Samples that could not be read so far.
    fn failures(&self) -> u64 {
        self.loader().map_or(0, Loader::failure_count)
    }

    /// What each of several data sets gives to an epoch.
    fn shares(&self) -> Vec<Share> {
        self.loader().map(Loader::shares).unwrap_or_default()
    }

    /// What some samples say of all.
    fn survey(&self) -> Survey {
        /// Enough for a mean, and read in a moment.
        const SAMPLES: usize = 32;
        self.loader().map(|loader| loader.survey(SAMPLES)).unwrap_or_default()
    }

    /// What could not be read so far, in words: files that were cut, and samples.
    fn failed_samples(&self) -> Vec<String> {
        let Some(loader) = self.loader() else { return Vec::new() };
        let failures = loader.failures().into_iter();
        let failures = failures.map(|failure| format!("{}: {}", failure.dataset, failure.reason));
        loader.faults().into_iter().chain(failures).collect()
    }
}
