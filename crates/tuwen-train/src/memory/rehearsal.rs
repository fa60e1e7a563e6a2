//! A training step on shapes.

use tuwen_models::clip::{Clip, TokenIds};
use tuwen_nn::{Kind, Pass, Scope};
use tuwen_tensor::meter::measure;
use tuwen_tensor::{Gradients, Tensor};

use super::{Estimate, Plan};
use crate::contrastive::{ClipBatch, Contrastive, Pairs};
use crate::recipe::Lora;
use crate::{Objective, Optimizer, Recipe, TrainError};

const FLOAT: u64 = size_of::<f32>() as u64;

/// Parts of a batch that run one by one; each further one takes its pixels and features only.
const PARTS: usize = 8;

/// Steps: later ones find the pool of buffers as the earlier ones left it, and have texts of other lengths.
const STEPS: usize = 4;

/// What the step holds at its height, without the loader and the program.
pub(super) fn run(plan: &Plan) -> Result<Estimate, TrainError> {
    let train = &plan.recipe.train;
    let part = train.micro_batch_size.unwrap_or(train.batch_size);
    let parts = (train.batch_size / part).max(1);
    let (sizes, measured) = measure(|| steps(plan, part, parts.min(PARTS)));
    let (weights, trainable) = sizes?;
    let more = (parts.saturating_sub(PARTS) * part) as u64 * FLOAT;
    let pixels = pixels_of(plan, train.batch_size) * FLOAT;
    // Features of images and texts, and their gradients.
    let more_features = more * 4 * plan.config.projection_dim as u64;
    let more_pixels = more * pixels_of(plan, 1);
    let [weights, trainable] = [weights, trainable].map(|floats| floats * FLOAT);
    let average = if train.ema_decay.is_some() { trainable } else { 0 };
    let parts_of_peak = weights + 3 * trainable + measured.packed + pixels - more_pixels;
    Ok(Estimate {
        weights: weights + average,
        packed: measured.packed,
        moments: 2 * trainable,
        gradients: trainable,
        batch: pixels,
        activations: measured.footprint.saturating_sub(parts_of_peak) + more_features,
        ..Estimate::default()
    })
}

/// Floats in the pixels of some pairs.
fn pixels_of(plan: &Plan, pairs: usize) -> u64 {
    let side = plan.preparation.image_size;
    (pairs * 3 * side * side) as u64
}

/// Trains; gives the number of floats in all parameters and in those that learn.
fn steps(plan: &Plan, part: usize, parts: usize) -> Result<(u64, u64), TrainError> {
    let recipe = &plan.recipe;
    let scope = Scope::count().with_precision(recipe.train.precision.into());
    let clip = Clip::new(&plan.config, scope)?;
    let learnable = clip.parameters().iter().filter(|entry| entry.kind == Kind::Parameter);
    learnable.filter(|entry| learns(recipe, &entry.name)).for_each(|entry| entry.param.set_trainable(true));
    recipe.lock.apply(clip.parameters())?;
    let objective = Contrastive::new(clip, plan.config.clone(), plan.preparation.clone(), recipe);
    let parameters = objective.parameters();
    let settings = objective.optimizer_settings(recipe);
    let mut optimizer = Optimizer::new(parameters, &recipe.groups, settings);
    let floats = |entry: &tuwen_nn::Entry| entry.param.value().elements() as u64;
    let sizes = (parameters.iter().map(floats).sum(), parameters.trainable().map(floats).sum());
    let context = plan.preparation.context_length;
    let lengths = if plan.text_lengths.is_empty() { &[context][..] } else { &plan.text_lengths };
    let mut lengths = lengths.iter().copied().cycle();
    let pass = Pass::train().with_checkpointing(recipe.train.gradient_checkpointing);
    for _ in 0..STEPS {
        let mut sum = Gradients::default();
        for _ in 0..recipe.train.accumulate_steps.min(2) {
            let batch = batch(plan, part, parts, &mut lengths);
            sum.accumulate(objective.gradients(&batch, &pass)?.1);
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

/// Pairs that all differ, with texts of these lengths.
fn batch(plan: &Plan, part: usize, parts: usize, lengths: &mut dyn Iterator<Item = usize>) -> ClipBatch {
    let side = plan.preparation.image_size;
    let mut pairs = |_| Pairs {
        pixel_values: Tensor::shape_only(&[part, 3, side, side]),
        tokens: tokens(plan, (&mut *lengths).take(part)),
    };
    ClipBatch {
        parts: (0..parts).map(&mut pairs).collect(),
        meanings: (0..part * parts).map(|pair| pair.to_string()).collect(),
    }
}

/// Texts of these lengths: zeros, and the end where it belongs.
fn tokens(plan: &Plan, lengths: impl Iterator<Item = usize>) -> TokenIds {
    let length = plan.preparation.context_length;
    let end = plan.preparation.tokenizer.end_id();
    let text = |text: usize| {
        let mut ids = vec![0; length];
        ids[text.clamp(1, length) - 1] = end;
        ids
    };
    TokenIds { ids: lengths.flat_map(text).collect(), length, attention_mask: None }
}
