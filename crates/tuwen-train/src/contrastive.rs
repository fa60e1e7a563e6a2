//! Contrastive pre-training of CLIP: the symmetric loss over a batch, zero-shot and retrieval on the way.

use std::path::Path;

use tuwen_models::clip::{Clip, ClipConfig, TokenIds, VisionConfig};
use tuwen_nn::{Parameters, Pass, contrastive_loss, duplicate_targets};
use tuwen_tensor::{Tensor, no_grad, ops};

use crate::data::Preparation;
use crate::evaluate::Embeddings;
use crate::objective::{Loss, Objective};
use crate::recipe::{Eval, ExportType};
use crate::{Metrics, Recipe, Settings, TrainError, evaluation, export};

/// Images and texts in one pass through a tower where nothing is kept for a backward pass.
const CHUNK: usize = 64;

/// Texts of about equal length in one pass.
const BUCKET: usize = 32;

/// Images and the captions that belong to them.
pub struct ClipBatch {
    /// `[pairs, 3, size, size]`.
    pub pixel_values: Tensor,
    /// `[pairs, longest]`.
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

    /// Unit vectors of texts, which run through the tower beside others of about their length: captions are half as
    /// long as the longest of a large batch.
    fn embed_by_length(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        let rows: Vec<&[u32]> = tokens.ids.chunks_exact(tokens.length.max(1)).collect();
        let lengths: Vec<usize> = rows.iter().map(|row| self.preparation.length(row)).collect();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| lengths[row]);
        let mut place = vec![0; rows.len()];
        order.iter().zip(0u32..).for_each(|(&row, at)| place[row] = at);
        let groups = order.chunks(BUCKET).map(|group| {
            let length = group.iter().map(|&row| lengths[row]).max().unwrap_or(0);
            let ids = group.iter().flat_map(|&row| rows[row][..length].iter().copied()).collect();
            self.clip.embed_text(&TokenIds { ids, length, attention_mask: None }, pass)
        });
        let groups: Vec<Tensor> = groups.collect();
        ops::gather_rows(&ops::concat(&groups.iter().collect::<Vec<_>>(), 0), &place)
    }

    /// Unit vectors of images `[n, 3, size, size]`, given as plain values.
    pub(crate) fn embed_images(&self, pixel_values: &[f32]) -> Embeddings {
        let size = self.preparation.image_size;
        let mut embeddings = Embeddings::empty(self.config.projection_dim);
        for chunk in pixel_values.chunks(CHUNK * 3 * size * size) {
            let pixel_values = Tensor::new(chunk, &[chunk.len() / (3 * size * size), 3, size, size]);
            let rows = no_grad(|| self.clip.embed_image(&pixel_values, &Pass::eval()));
            embeddings.values.extend(rows.to_vec());
        }
        embeddings
    }

    /// Unit vectors of texts.
    pub(crate) fn embed_texts(&self, texts: &[String]) -> Result<Embeddings, TrainError> {
        let mut embeddings = Embeddings::empty(self.config.projection_dim);
        for chunk in texts.chunks(CHUNK) {
            let tokens = self.preparation.tokens(chunk)?;
            let rows = no_grad(|| self.clip.embed_text(&tokens, &Pass::eval()));
            embeddings.values.extend(rows.to_vec());
        }
        Ok(embeddings)
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
        let text = self.embed_by_length(&batch.tokens, pass);
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
        export::clip(directory, &self.config, self.clip.parameters(), &self.preparation.tokenizer, dtype)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tuwen_data::tokenizer::ClipTokenizer;
    use tuwen_nn::Scope;

    use super::*;

    #[test]
    fn texts_by_length_are_the_texts_of_the_batch_in_their_order() {
        let json = r#"{"embed_dim": 8, "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8,
            "patch_size": 8}, "text_cfg": {"context_length": 24, "vocab_size": 520, "width": 16, "heads": 2, "layers": 2}}"#;
        let config = ClipConfig::from_open_clip_json(json).expect("read");
        let texts: Vec<String> = (0..70).map(|i| "word ".repeat(i * 7 % 5) + &i.to_string()).collect();
        let tokenizer = Arc::new(ClipTokenizer::train(texts.iter(), 520).expect("learnt"));
        let preparation = Preparation { tokenizer, context_length: 24, image_size: 16 };
        let clip = Clip::new(&config, Scope::init(5)).expect("nothing is loaded");
        let model = Contrastive { clip, config, preparation, duplicates_are_positives: true };
        let tokens = model.preparation.tokens(&texts).expect("encoded");
        let together = model.clip.embed_text(&tokens, &Pass::eval()).to_vec();
        let by_length = model.embed_by_length(&tokens, &Pass::eval()).to_vec();
        assert!(together.iter().zip(&by_length).all(|(a, b)| (a - b).abs() < 1e-6));
        assert_eq!(together.len(), by_length.len());
    }
}
