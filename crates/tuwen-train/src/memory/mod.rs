//! How much memory a run takes, estimated before its first step.
//!
//! The estimate is no formula: the training step itself runs on shapes ([`tuwen_tensor::meter`]), with the recipe's
//! network, optimizer, batch and parts, and tells what it holds at its height.

mod clip;
mod rehearsal;

use std::sync::Arc;

use tuwen_data::loader::Survey;

use crate::error::gigabytes;
use crate::{Recipe, TrainError};

pub(crate) use clip::ClipOnShapes;
pub(crate) use rehearsal::{BatchParts, Sizes, let_learn, train};

/// A network with what it learns, as an estimate needs it: on shapes.
pub(crate) trait OnShapes: Send + Sync {
    /// Floats in the pixels of a sample.
    fn pixels(&self) -> usize;

    /// Floats that stay of each sample of a batch while its parts go through the network one by one: vectors and their
    /// gradients.
    fn features(&self) -> usize;

    /// Takes a few steps of a recipe, with batches of so many parts.
    fn train(&self, recipe: &Recipe, parts: BatchParts) -> Result<Sizes, TrainError>;
}

/// What decides the memory of a run.
#[derive(Clone)]
pub struct Plan {
    /// The network, and what it learns from.
    network: Arc<dyn OnShapes>,
    /// Batches, what learns, data.
    recipe: Recipe,
    /// Bytes of all decoded images, if they are kept; `None` if that is not known.
    data_bytes: Option<u64>,
}

/// Memory of a run at its height, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Parameters, running statistics, the moving average of what learns, copies that follow it, and queues.
    pub weights: u64,
    /// Weights in the form in which they are multiplied.
    pub packed: u64,
    /// Both moments of AdamW.
    pub moments: u64,
    /// Gradients of everything that learns.
    pub gradients: u64,
    /// Pixels of a batch.
    pub batch: u64,
    /// Everything else that a step holds: activations, mostly, and what the pool of buffers keeps for the next.
    pub activations: u64,
    /// Batches that the loader has ready.
    pub loader: u64,
    /// Decoded images that are kept for later epochs.
    pub cache: u64,
    /// A copy of the weights, from which a model is exported while the buffers of the last step still lie in the pool.
    pub export: u64,
    /// The program itself and the scratch memory of its threads.
    pub program: u64,
}

impl Estimate {
    /// All of it.
    pub fn total(&self) -> u64 {
        let Self { weights, packed, moments, gradients, batch, activations, .. } = *self;
        let Self { loader, cache, export, program, .. } = *self;
        [weights, packed, moments, gradients, batch, activations, loader, cache, export, program].iter().sum()
    }
}

impl Plan {
    /// The plan of a recipe whose network and data are known.
    pub(crate) fn new(recipe: &Recipe, network: impl OnShapes + 'static, survey: &Survey) -> Self {
        let data_bytes = survey.image_bytes.map(|bytes| (bytes * survey.samples) as u64);
        Self { network: Arc::new(network), recipe: recipe.clone(), data_bytes }
    }

    /// Runs a step on shapes.
    ///
    /// # Errors
    /// A network that cannot be made.
    pub fn estimate(&self) -> Result<Estimate, TrainError> {
        let step = rehearsal::run(self.network.as_ref(), &self.recipe)?;
        let train = &self.recipe.train;
        let part = train.micro_batch_size.unwrap_or(train.batch_size);
        let pixels = (part * self.network.pixels() * size_of::<f32>()) as u64;
        let ready = 2 * train.threads + 1;
        let cache = (train.cache_megabytes as u64) << 20;
        Ok(Estimate {
            loader: ready as u64 * pixels,
            cache: self.data_bytes.map_or(cache, |bytes| bytes.min(cache)),
            program: PROGRAM,
            ..step
        })
    }

    /// What to set so that the run fits, in one sentence; how much each takes.
    ///
    /// # Errors
    /// A network that cannot be made.
    pub fn advice(&self, available: u64) -> Result<String, TrainError> {
        let needs = |change: &dyn Fn(&mut Self)| {
            let mut plan = self.clone();
            change(&mut plan);
            plan.estimate().map(|estimate| estimate.total())
        };
        let mut ways = Vec::new();
        if !self.recipe.train.gradient_checkpointing {
            let needed = needs(&|plan| plan.recipe.train.gradient_checkpointing = true)?;
            if needed <= available {
                ways.push(("gradient_checkpointing = true".to_owned(), needed));
            }
        }
        if let Some(way) = self.smaller_parts(available, needs)? {
            ways.push(way);
        }
        if ways.is_empty() {
            let least = needs(&|plan| {
                let train = &mut plan.recipe.train;
                (train.micro_batch_size, train.gradient_checkpointing) = (Some(1), true);
                train.cache_megabytes = 0;
            })?;
            let least = gigabytes(least);
            return Ok(format!(
                "micro_batch_size = 1, gradient_checkpointing = true and cache_megabytes = 0 would still need \
                 {least}: take a smaller model or batch"
            ));
        }
        let ways: Vec<String> =
            ways.into_iter().map(|(way, needed)| format!("{way} ({})", gigabytes(needed))).collect();
        Ok(format!("set under [train] {}", ways.join(" or ")))
    }

    /// The largest parts of the batch that fit.
    fn smaller_parts(
        &self,
        available: u64,
        needs: impl Fn(&dyn Fn(&mut Self)) -> Result<u64, TrainError>,
    ) -> Result<Option<(String, u64)>, TrainError> {
        let train = &self.recipe.train;
        let now = train.micro_batch_size.unwrap_or(train.batch_size);
        let divides = |part: &usize| train.batch_size.is_multiple_of(*part);
        // At least a third smaller each time, so that few are tried.
        let mut last = now;
        for part in (1..now).rev().filter(divides) {
            if part * 3 > last * 2 && part > 1 {
                continue;
            }
            last = part;
            let needed = needs(&|plan| plan.recipe.train.micro_batch_size = Some(part))?;
            if needed <= available {
                return Ok(Some((format!("micro_batch_size = {part}"), needed)));
            }
        }
        Ok(None)
    }
}

/// The program, its threads and their scratch memory, as measured with the smallest networks.
const PROGRAM: u64 = 32 << 20;
