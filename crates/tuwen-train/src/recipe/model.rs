//! What is trained: the network and its tokenizer.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Objective;

/// The network: a preset, the sizes of its parts, or a checkpoint to start from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name of a published architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// A model directory whose weights the run starts from, or `builtin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<PathBuf>,
    /// A low-rank adapter in peft's layout: merged into the weights of `init_from`, or, with `[lora]`, trained further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Side of the images in pixels, where it shall not be that of the preset or of the files to start from (BLIP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// Standard deviation from which matrices and tables of a new BLIP are drawn; 0.02, which suits a width of 768, unless
    /// given. A narrow network learns to look at images sooner with more: 0.55 divided by the root of its width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initializer_range: Option<f64>,
    /// Width of the joint space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projection_dim: Option<usize>,
    /// The image tower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<Vision>,
    /// The text tower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Text>,
}

/// Sizes of an image tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
#[allow(missing_docs)] // the fields of `VitConfig` and `ResNetConfig`
pub enum Vision {
    /// A vision transformer.
    Vit {
        hidden_size: usize,
        /// Four times `hidden_size` unless given.
        intermediate_size: Option<usize>,
        num_hidden_layers: usize,
        num_attention_heads: usize,
        image_size: usize,
        patch_size: usize,
    },
    /// A ModifiedResNet.
    ResNet { width: usize, layers: [usize; 4], num_attention_heads: Option<usize>, image_size: usize },
}

/// Sizes of a text tower; the vocabulary is that of the tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields of `TextConfig`
pub struct Text {
    pub hidden_size: usize,
    /// Four times `hidden_size` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<usize>,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub max_position_embeddings: usize,
}

/// How captions become token ids: CLIP's own vocabulary unless something else is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenizer {
    /// Learn a vocabulary of this size from the training captions; for BLIP, the part of `from` that its texts use most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_vocab_size: Option<usize>,
    /// Read the tokenizer of a model directory; for BLIP, also a `vocab.txt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
}

impl Model {
    pub(super) fn check(&self) -> Result<(), String> {
        let sizes = self.vision.is_some() || self.text.is_some() || self.projection_dim.is_some();
        let ways = [self.preset.is_some(), self.init_from.is_some(), sizes];
        if ways.iter().filter(|&&way| way).count() != 1 {
            return Err(
                "[model] takes one of: preset, init_from, or vision with text and projection_dim".into()
            );
        }
        if self.adapter.is_some() && self.init_from.is_none() {
            return Err("model.adapter needs model.init_from: the model that it adapts".into());
        }
        if let Some(range) = self.initializer_range.filter(|range| !(*range > 0.0 && *range < 1.0)) {
            return Err(format!("model.initializer_range is {range}; it has to be between 0 and 1"));
        }
        if sizes && (self.vision.is_none() || self.text.is_none() || self.projection_dim.is_none()) {
            return Err("[model] by sizes needs all of vision, text and projection_dim".into());
        }
        Ok(())
    }
}

impl Tokenizer {
    pub(super) fn check(&self, objective: Objective) -> Result<(), String> {
        if !matches!(objective, Objective::Blip | Objective::Albef)
            && self.from.is_some()
            && self.train_vocab_size.is_some()
        {
            return Err("[tokenizer] takes one of: from, train_vocab_size".into());
        }
        Ok(())
    }
}
