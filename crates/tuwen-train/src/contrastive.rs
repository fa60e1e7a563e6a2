//! Contrastive pre-training of CLIP: the symmetric loss over a batch, zero-shot and retrieval on the way.

use std::path::Path;

use tuwen::Embeddings;
use tuwen::export::{Export, Parts, Target};
use tuwen_models::clip::{Clip, ClipConfig, TokenIds, VisionConfig};
use tuwen_nn::{Parameters, Pass, contrastive_loss, duplicate_targets};
use tuwen_tensor::{Tensor, no_grad, ops};

use crate::data::Preparation;
use crate::objective::{Loss, Objective};
use crate::recipe::{Eval, ExportType};
use crate::{Metrics, Recipe, Settings, TrainError, evaluation};

/// Images and texts in one pass through a tower where nothing is kept for a backward pass.
const CHUNK: usize = 64;

/// Images and the captions that belong to them.
pub struct ClipBatch {
    /// `[pairs, 3, size, size]`.
    pub pixel_values: Tensor,
    /// `[pairs, context]`.
    pub tokens: TokenIds,
    /// What each pair is about: the name of its class, else its caption.
    pub meanings: Vec<String>,
}

/// A CLIP network that learns to match images and captions.
pub struct Contrastive {
    clip: Clip,
    config: ClipConfig,
    preparation: Preparation,
    duplicates_are_positives: bool,
}

impl Contrastive {
    /// Trains `clip`, which was made from `config`.
    pub fn new(clip: Clip, config: ClipConfig, preparation: Preparation, recipe: &Recipe) -> Self {
        let duplicates_are_positives = recipe.train.duplicates_are_positives;
        Self { clip, config, preparation, duplicates_are_positives }
    }

    /// Number of learnable values.
    pub fn parameter_count(&self) -> usize {
        self.clip.parameters().total()
    }

    /// How images and texts are prepared for this network.
    pub fn preparation(&self) -> &Preparation {
        &self.preparation
    }

    /// Unit vectors of texts.
    fn text(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        ops::l2_normalize(&self.clip.text_features_by_length(tokens, pass))
    }

    /// Unit vectors of images `[n, 3, size, size]`, given as plain values.
    pub(crate) fn embed_images(&self, pixel_values: &[f32]) -> Vec<f32> {
        let size = self.preparation.image_size;
        let embed = |chunk: &[f32]| {
            let pixel_values = Tensor::new(chunk, &[chunk.len() / (3 * size * size), 3, size, size]);
            no_grad(|| self.clip.embed_image(&pixel_values, &Pass::eval())).to_vec()
        };
        pixel_values.chunks(CHUNK * 3 * size * size).flat_map(embed).collect()
    }

    /// Unit vectors of texts.
    pub(crate) fn embed_texts(&self, texts: &[String]) -> Result<Embeddings, TrainError> {
        let tokens = self.preparation.tokens(texts)?;
        let vectors = no_grad(|| self.text(&tokens, &Pass::eval())).to_vec();
        Ok(Embeddings::new(vectors, self.dim()))
    }

    /// Width of a vector.
    pub(crate) fn dim(&self) -> usize {
        self.config.projection_dim
    }
}

impl Objective for Contrastive {
    type Batch = ClipBatch;

    fn parameters(&self) -> &Parameters {
        self.clip.parameters()
    }

    fn optimizer_settings(&self, recipe: &Recipe) -> Settings {
        recipe.optimizer_settings(matches!(self.config.vision, VisionConfig::ResNet(_)))
    }

    fn losses(&self, batch: &ClipBatch, pass: &Pass) -> Result<Vec<Loss>, TrainError> {
        let targets = self.duplicates_are_positives.then(|| duplicate_targets(&batch.meanings)).flatten();
        let image = self.clip.embed_image(&batch.pixel_values, pass);
        let text = self.text(&batch.tokens, pass);
        Ok(vec![(
            "contrastive",
            contrastive_loss(&image, &text, &self.clip.logit_scale(), targets.as_deref()),
        )])
    }

    fn after_step(&self) {
        self.clip.clamp_logit_scale();
    }

    fn gauges(&self) -> Metrics {
        let logit_scale = no_grad(|| self.clip.logit_scale()).item();
        Metrics::from([("logit_scale".to_owned(), f64::from(logit_scale))])
    }

    fn evaluate(&self, recipe: &Recipe, eval: &Eval) -> Result<Metrics, TrainError> {
        evaluation::run(self, recipe, eval)
    }

    fn export(&self, directory: &Path, dtype: ExportType) -> Result<(), TrainError> {
        let parts = Parts {
            config: &self.config,
            weights: self.clip.parameters(),
            processor: &self.preparation.processor,
            tokenizer: Some(&self.preparation.tokenizer),
        };
        let export = Export::new(parts, Target::usual(&self.config), dtype.into())?;
        Ok(export.write_directory(directory, &mut |_| {})?)
    }
}
