//! A CLIP on shapes.

use tuwen_data::loader::Survey;
use tuwen_models::clip::{Clip, ClipConfig, TokenIds};
use tuwen_nn::Scope;
use tuwen_tensor::Tensor;

use super::{BatchParts, OnShapes, Sizes, let_learn, train};
use crate::contrastive::{ClipBatch, Contrastive, Pairs};
use crate::data::Preparation;
use crate::{Recipe, TrainError};

/// A CLIP that learns from pairs.
pub(crate) struct ClipOnShapes {
    config: ClipConfig,
    preparation: Preparation,
    /// Lengths of some texts in tokens, of which those of a batch are made; as long as the context if there are none.
    text_lengths: Vec<usize>,
}

impl ClipOnShapes {
    /// # Errors
    /// Texts that cannot become tokens.
    pub fn new(config: &ClipConfig, preparation: &Preparation, survey: &Survey) -> Result<Self, TrainError> {
        let texts: Vec<&String> = survey.seen.iter().flat_map(|sample| &sample.texts).collect();
        let tokens = preparation.tokens(&texts)?;
        // Behind the end of a text there are zeros.
        let length = |ids: &[u32]| ids.iter().rposition(|&id| id != 0).map_or(1, |last| last + 1);
        Ok(Self {
            config: config.clone(),
            preparation: preparation.clone(),
            text_lengths: tokens.ids.chunks_exact(tokens.length.max(1)).map(length).collect(),
        })
    }

    /// Pairs that all differ, with texts of these lengths.
    fn batch(&self, parts: BatchParts, lengths: &mut dyn Iterator<Item = usize>) -> ClipBatch {
        let side = self.preparation.image_size;
        let mut pairs = |_| Pairs {
            pixel_values: Tensor::shape_only(&[parts.size, 3, side, side]),
            tokens: self.tokens((&mut *lengths).take(parts.size)),
            taught: None,
        };
        ClipBatch {
            parts: (0..parts.count).map(&mut pairs).collect(),
            meanings: (0..parts.size * parts.count).map(|pair| pair.to_string()).collect(),
        }
    }

    /// Texts of these lengths: zeros, and the end where it belongs.
    fn tokens(&self, lengths: impl Iterator<Item = usize>) -> TokenIds {
        let length = self.preparation.context_length;
        let end = self.preparation.tokenizer.end_id();
        let text = |text: usize| {
            let mut ids = vec![0; length];
            ids[text.clamp(1, length) - 1] = end;
            ids
        };
        TokenIds { ids: lengths.flat_map(text).collect(), length, attention_mask: None }
    }
}

impl OnShapes for ClipOnShapes {
    fn pixels(&self) -> usize {
        3 * self.preparation.image_size * self.preparation.image_size
    }

    fn features(&self) -> usize {
        4 * self.config.projection_dim
    }

    fn train(&self, recipe: &Recipe, parts: BatchParts) -> Result<Sizes, TrainError> {
        let clip = Clip::new(&self.config, Scope::count().with_precision(recipe.train.precision.into()))?;
        let_learn(clip.parameters(), recipe)?;
        let network = clip.parameters().clone();
        let objective = Contrastive::new(clip, self.config.clone(), self.preparation.clone(), recipe);
        let context = self.preparation.context_length;
        let lengths = if self.text_lengths.is_empty() { &[context][..] } else { &self.text_lengths };
        let mut lengths = lengths.iter().copied().cycle();
        train(&objective, &network, recipe, || Ok(self.batch(parts, &mut lengths)))
    }
}
