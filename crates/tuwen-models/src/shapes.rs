//! Sizes of networks as the shapes of their parameters tell them, under our names.

use tuwen_tensor::Activation;
use tuwen_tensor::checkpoint::TensorSource;

use crate::bert::{BertConfig, CrossAttentionConfig, CrossImages, LAYER_NORM_EPS};
use crate::{ConfigError, VitConfig, sizes};

/// Width of a head in every published BLIP and ALBEF; shapes do not tell.
const HEAD_WIDTH: usize = 64;

/// The shapes of a checkpoint.
pub(crate) struct Shapes<'s>(pub &'s dyn TensorSource);

impl Shapes<'_> {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.info(name).is_some()
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, ConfigError> {
        self.0.info(name).map(|info| info.shape).ok_or_else(|| ConfigError::Missing(name.to_owned()))
    }

    /// Rows and columns of a matrix.
    pub(crate) fn matrix(&self, name: &str) -> Result<[usize; 2], ConfigError> {
        match self.shape(name)?.as_slice() {
            &[rows, columns] => Ok([rows, columns]),
            other => Err(ConfigError::unsupported(name, format!("{other:?}"), "expected a matrix")),
        }
    }

    /// How many parts have the numbers from 0 on behind a prefix.
    fn count(&self, prefix: &str) -> usize {
        let number = |name: String| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        self.0.names().into_iter().filter_map(number).max().map_or(0, |last| last.saturating_add(1))
    }

    /// The image encoder of BLIP or ALBEF at `vision_model`.
    pub(crate) fn vision(&self, layer_norm_eps: f32) -> Result<VitConfig, ConfigError> {
        const PATCHES: &str = "vision_model.embeddings.patch_embedding.weight";
        const POSITIONS: &str = "vision_model.embeddings.position_embedding";
        let (hidden_size, patch_size) = match self.shape(PATCHES)?.as_slice() {
            &[out, 3, side, width] if side == width => (out, side),
            other => {
                let expected = "expected [width, 3, patch, patch]";
                return Err(ConfigError::unsupported(PATCHES, format!("{other:?}"), expected));
            }
        };
        let positions = match self.shape(POSITIONS)?.as_slice() {
            &[1, positions, _] => positions,
            other => {
                let expected = "expected [1, positions, width]";
                return Err(ConfigError::unsupported(POSITIONS, format!("{other:?}"), expected));
            }
        };
        Ok(VitConfig {
            hidden_size,
            intermediate_size: self.matrix("vision_model.encoder.layers.0.mlp.fc1.weight")?[0],
            num_hidden_layers: self.count("vision_model.encoder.layers."),
            num_attention_heads: hidden_size.div_ceil(HEAD_WIDTH),
            image_size: positions.saturating_sub(1).isqrt().saturating_mul(patch_size),
            patch_size,
            hidden_act: Activation::Gelu,
            layer_norm_eps,
        })
    }

    /// The BERT at a prefix, which ends in a dot.
    pub(crate) fn bert(&self, prefix: &str) -> Result<BertConfig, ConfigError> {
        let embeddings = |name: &str| format!("{prefix}embeddings.{name}_embeddings.weight");
        let [vocab_size, hidden_size] = self.matrix(&embeddings("word"))?;
        let types = embeddings("token_type");
        let type_vocab_size = if self.has(&types) { Some(self.matrix(&types)?[0]) } else { None };
        let layers = format!("{prefix}encoder.layer.");
        let num_hidden_layers = self.count(&layers);
        // Before anything is looked for in each of them: the number may be any.
        sizes::layers(&layers, num_hidden_layers)?;
        Ok(BertConfig {
            vocab_size,
            hidden_size,
            intermediate_size: self.matrix(&format!("{layers}0.intermediate.dense.weight"))?[0],
            num_hidden_layers,
            num_attention_heads: hidden_size.div_ceil(HEAD_WIDTH),
            max_position_embeddings: self.matrix(&embeddings("position"))?[0],
            type_vocab_size,
            hidden_act: Activation::Gelu,
            layer_norm_eps: LAYER_NORM_EPS,
            cross_attention: self.cross_attention(&layers, num_hidden_layers)?,
        })
    }

    fn cross_attention(
        &self,
        layers: &str,
        count: usize,
    ) -> Result<Option<CrossAttentionConfig>, ConfigError> {
        let part = |layer: usize, name: &str| format!("{layers}{layer}.crossattention.{name}");
        let [one, two] = ["self.key.weight", "self0.key.weight"];
        let looks = |&layer: &usize| self.has(&part(layer, one)) || self.has(&part(layer, two));
        let mut looking = (0..count).filter(looks);
        let Some(first_layer) = looking.next() else { return Ok(None) };
        let every = looking.next().map_or(1, |second| second - first_layer);
        let pair = self.has(&part(first_layer, two));
        let key = if pair { two } else { one };
        let merges = |&layer: &usize| self.has(&part(layer, "output.merge_layer.weight"));
        let images = if pair {
            CrossImages::Two { merge_from: (0..count).find(merges).unwrap_or(count) }
        } else {
            CrossImages::One
        };
        let [_, encoder_width] = self.matrix(&part(first_layer, key))?;
        Ok(Some(CrossAttentionConfig { encoder_width, first_layer, every, images }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tuwen_tensor::checkpoint::RawTensor;

    use super::*;

    #[test]
    fn layers_without_number_are_refused_at_once() {
        let tensor = |name: &str| (name.to_owned(), RawTensor::from_f32(&[1, 1], &[0.0]));
        let names = [
            "text_encoder.embeddings.word_embeddings.weight",
            "text_encoder.encoder.layer.0.intermediate.dense.weight",
            "text_encoder.encoder.layer.9223372036854775807.x",
        ];
        let source: BTreeMap<_, _> = names.into_iter().map(tensor).collect();
        let message = Shapes(&source).bert("text_encoder.").expect_err("too many").to_string();
        assert!(message.contains("expected at most 4096"), "{message}");
        assert!(Shapes(&source).vision(1e-6).is_err());
    }
}
