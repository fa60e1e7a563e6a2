//! A training step on shapes.

use tuwen_nn::{Entry, Kind, Parameters, Pass};
use tuwen_tensor::Gradients;
use tuwen_tensor::meter::measure;

use super::{Estimate, OnShapes};
use crate::recipe::Lora;
use crate::{Objective, Optimizer, Recipe, TrainError};

const FLOAT: u64 = size_of::<f32>() as u64;

/// Parts of a batch that run one by one; each further one takes its pixels and features only.
const PARTS: usize = 8;

/// Steps: later ones find the pool of buffers as the earlier ones left it, and have texts of other lengths.
const STEPS: usize = 4;

/// How a batch is cut.
#[derive(Clone, Copy)]
pub(crate) struct BatchParts {
    /// Parts of a batch.
    pub count: usize,
    /// Samples of a part.
    pub size: usize,
}

/// Numbers of floats.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    /// In everything that is saved with a run.
    pub all: u64,
    /// In what learns.
    pub trainable: u64,
    /// In what belongs to the network, without copies and queues beside it.
    pub network: u64,
}

/// What the step holds at its height, without the loader and the program.
pub(super) fn run(network: &dyn OnShapes, recipe: &Recipe) -> Result<Estimate, TrainError> {
    let train = &recipe.train;
    let part = train.micro_batch_size.unwrap_or(train.batch_size);
    let parts = (train.batch_size / part).max(1);
    let (sizes, measured) =
        measure(|| network.train(recipe, BatchParts { count: parts.min(PARTS), size: part }));
    let Sizes { all, trainable, network: own } = sizes?;
    let more = (parts.saturating_sub(PARTS) * part) as u64 * FLOAT;
    let pixels = (train.batch_size * network.pixels()) as u64 * FLOAT;
    let more_features = more * network.features() as u64;
    let more_pixels = more * network.pixels() as u64;
    let [weights, trainable, own] = [all, trainable, own].map(|floats| floats * FLOAT);
    let average = if train.ema_decay.is_some() { trainable } else { 0 };
    let parts_of_peak = weights + 3 * trainable + measured.packed + pixels - more_pixels;
    Ok(Estimate {
        weights: weights + average,
        packed: measured.packed,
        moments: 2 * trainable,
        gradients: trainable,
        batch: pixels,
        activations: measured.footprint.saturating_sub(parts_of_peak) + more_features,
        export: own + average,
        ..Estimate::default()
    })
}

/// Lets learn in a network of shapes what a recipe lets learn.
pub(crate) fn let_learn(parameters: &Parameters, recipe: &Recipe) -> Result<(), TrainError> {
    let learnable = parameters.iter().filter(|entry| entry.kind == Kind::Parameter);
    learnable.filter(|entry| learns(recipe, &entry.name)).for_each(|entry| entry.param.set_trainable(true));
    recipe.lock.apply(parameters)
}

/// Takes a few steps with batches of shapes; `network` are the parameters without what is beside it.
pub(crate) fn train<O: Objective>(
    objective: &O,
    network: &Parameters,
    recipe: &Recipe,
    mut batch: impl FnMut() -> Result<O::Batch, TrainError>,
) -> Result<Sizes, TrainError> {
    let parameters = objective.parameters();
    let mut optimizer = Optimizer::new(parameters, &recipe.groups, objective.optimizer_settings(recipe));
    let floats = |entry: &Entry| entry.param.value().elements() as u64;
    let sizes = Sizes {
        all: parameters.iter().map(floats).sum(),
        trainable: parameters.trainable().map(floats).sum(),
        network: network.iter().map(floats).sum(),
    };
    let pass = Pass::train().with_checkpointing(recipe.train.gradient_checkpointing);
    for _ in 0..STEPS {
        let mut sum = Gradients::default();
        for _ in 0..recipe.train.accumulate_steps.min(2) {
            sum.accumulate(objective.gradients(&batch()?, &pass)?.1);
        }
        optimizer.step(sum, recipe.optimizer.lr);
        objective.after_step();
    }
    Ok(sizes)
}

/// Whether a parameter learns. The low-rank factors of an adapted layer are not there; its bias, as small as they are,
/// stands in for them.
fn learns(recipe: &Recipe, name: &str) -> bool {
    let Some(lora) = recipe.lora.as_ref().map(Lora::config) else { return true };
    lora.saves(name) || name.strip_suffix(".bias").is_some_and(|layer| lora.adapts(layer))
}
