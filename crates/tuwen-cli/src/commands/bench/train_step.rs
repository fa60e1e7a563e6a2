//! A step of contrastive training of a small CLIP, as `tuwen train` takes it, without reading data.

use std::sync::Arc;

use serde_json::json;
use tuwen_data::rng::Rng;
use tuwen_data::tokenizer::ClipTokenizer;
use tuwen_kernels::{Activation, Precision};
use tuwen_models::VitConfig;
use tuwen_models::clip::{
    Clip, ClipConfig, ClipImageProcessor, TextConfig, TextPooling, TokenIds, VisionConfig,
};
use tuwen_nn::{Pass, Scope};
use tuwen_tensor::Tensor;
use tuwen_tensor::meter::measure as count;
use tuwen_train::{ClipBatch, Contrastive, Objective, Optimizer, Pairs, Preparation, Recipe, TrainError};

use super::clock::Clock;
use super::line::Timed;
use super::roofline::Work;
use crate::failure::Failure;

/// What the network is called in results.
pub const MODEL: &str = "clip-small-64px";

const BATCH: usize = 128;
const SIDE: usize = 64;
const PATCH: usize = 8;
const WIDTH: usize = 256;
const HEADS: usize = 4;
const LAYERS: [usize; 2] = [6, 4];
const CONTEXT: usize = 32;
const VOCABULARY: usize = 8192;

/// The last id ends a text.
const END: u32 = VOCABULARY as u32 - 1;

/// Measures training in a precision; pixels and ids are random, and texts fill the context.
pub fn measure(precision: Precision, clock: Clock) -> Result<Timed, Failure> {
    let mut trainer = Trainer::new(Scope::init(0).with_precision(precision))?;
    let batch = batch(|shape| {
        let mut rng = Rng::new(&[13]);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.range(-2.0, 2.0)).collect();
        Tensor::new(&values, shape)
    });
    let mut failed = None;
    let seconds = clock.median(|| failed = trainer.step(&batch).err().or(failed.take()));
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok(Timed { batch: BATCH, seconds, work: work()?, peak_memory: None })
}

/// What a step does: the operations of the step on shapes, and each weight with both its moments read and written.
fn work() -> Result<Work, Failure> {
    let mut trainer = Trainer::new(Scope::count())?;
    let parameters = trainer.objective.parameters();
    parameters.iter().for_each(|entry| entry.param.set_trainable(true));
    let floats: u64 = parameters.iter().map(|entry| entry.param.value().elements() as u64).sum();
    trainer.optimizer = optimizer(&trainer.objective, &trainer.recipe);
    let batch = batch(Tensor::shape_only);
    trainer.step(&batch)?;
    let (stepped, measured) = count(|| trainer.step(&batch));
    stepped?;
    let pixels = (BATCH * 3 * SIDE * SIDE) as u64;
    Ok(Work { flops: measured.flops, bytes: size_of::<f32>() as u64 * (6 * floats + pixels) })
}

/// What a run of training consists of, but for its data.
struct Trainer {
    objective: Contrastive,
    optimizer: Optimizer,
    recipe: Recipe,
}

impl Trainer {
    fn new(scope: Scope) -> Result<Self, Failure> {
        let recipe: Recipe = serde_json::from_value(json!({
            "output": "", "model": {}, "data": [], "train": {"batch_size": BATCH, "epochs": 1}, "optimizer": {"lr": 1e-3},
        }))?;
        let preparation = Preparation {
            tokenizer: Arc::new(ClipTokenizer::openai()),
            context_length: CONTEXT,
            image_size: SIDE,
            processor: ClipImageProcessor::openai(SIDE),
        };
        let config = config();
        let clip = Clip::new(&config, scope).map_err(Failure::model)?;
        let objective = Contrastive::new(clip, config, preparation, &recipe);
        Ok(Self { optimizer: optimizer(&objective, &recipe), objective, recipe })
    }

    fn step(&mut self, batch: &ClipBatch) -> Result<(), TrainError> {
        let (_, gradients) = self.objective.gradients(batch, &Pass::train())?;
        self.optimizer.step(gradients, self.recipe.optimizer.lr);
        self.objective.after_step();
        Ok(())
    }
}

fn optimizer(objective: &Contrastive, recipe: &Recipe) -> Optimizer {
    Optimizer::new(objective.parameters(), &recipe.groups, objective.optimizer_settings(recipe))
}

fn config() -> ClipConfig {
    let [vision_layers, text_layers] = LAYERS;
    let (hidden_act, layer_norm_eps) = (Activation::QuickGelu, 1e-5);
    ClipConfig {
        vision: VisionConfig::Vit(VitConfig {
            hidden_size: WIDTH,
            intermediate_size: 4 * WIDTH,
            num_hidden_layers: vision_layers,
            num_attention_heads: HEADS,
            image_size: SIDE,
            patch_size: PATCH,
            hidden_act,
            layer_norm_eps,
        }),
        text: TextConfig {
            vocab_size: VOCABULARY,
            hidden_size: WIDTH,
            intermediate_size: 4 * WIDTH,
            num_hidden_layers: text_layers,
            num_attention_heads: HEADS,
            max_position_embeddings: CONTEXT,
            hidden_act,
            layer_norm_eps,
            pooling: TextPooling::FirstEos(END),
        },
        projection_dim: WIDTH,
        logit_scale_init_value: (1.0_f32 / 0.07).ln(),
        logit_bias_init_value: None,
    }
}

/// Pairs that all differ.
fn batch(pixel_values: impl FnOnce(&[usize]) -> Tensor) -> ClipBatch {
    let mut rng = Rng::new(&[17]);
    let mut id = |at| if at == CONTEXT - 1 { END } else { rng.below(u64::from(END)) as u32 };
    let ids = (0..BATCH).flat_map(|_| (0..CONTEXT).map(&mut id).collect::<Vec<_>>()).collect();
    let pairs = Pairs {
        pixel_values: pixel_values(&[BATCH, 3, SIDE, SIDE]),
        tokens: TokenIds { ids, length: CONTEXT, attention_mask: None },
        taught: None,
    };
    ClipBatch { parts: vec![pairs], meanings: (0..BATCH).map(|pair| pair.to_string()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_three_times_the_forward_pass() {
        let work = work().expect("counted");
        // Multiplications of a token in a layer (projections, MLP) and with the tokens that it attends to.
        let layer = |tokens: usize| tokens * (12 * WIDTH * WIDTH + 2 * tokens * WIDTH);
        let image = LAYERS[0] * layer(65) + 64 * 3 * PATCH * PATCH * WIDTH;
        let text = LAYERS[1] * layer(CONTEXT);
        let forward = 2 * BATCH * (image + text);
        let share = work.flops as f64 / (3 * forward) as f64;
        assert!((0.8..1.02).contains(&share), "{share} of {forward} three times");
    }

    #[test]
    fn a_step_changes_the_network() {
        let mut trainer = Trainer::new(Scope::init(0)).expect("made");
        let weight = |trainer: &Trainer| {
            let entry = trainer.objective.parameters().get("text_projection.weight").expect("there");
            entry.param.value().to_vec()
        };
        let before = weight(&trainer);
        trainer.step(&batch(|shape| Tensor::full(0.5, shape))).expect("taken");
        assert_ne!(before, weight(&trainer));
    }
}
