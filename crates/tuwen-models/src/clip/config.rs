//! Sizes of a CLIP model, from `config.json`, `open_clip_config.json`, or the shapes of a state dict.
//!
//! Only what is read is kept. A value that would make another network than ours (an unknown activation, an option of
//! open_clip that changes the computation) is an error, never a default.

use tuwen_tensor::Activation;

use crate::{ResNetConfig, VitConfig};

mod difference;
mod hugging_face;
mod open_clip;
mod state_dict;

pub use difference::Difference;
pub(crate) use hugging_face::activation;

/// A model of two towers.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipConfig {
    /// The image tower.
    pub vision: VisionConfig,
    /// The text tower.
    pub text: TextConfig,
    /// Width of the joint space.
    pub projection_dim: usize,
    /// Where the logarithm of the temperature begins.
    pub logit_scale_init_value: f32,
    /// Where the bias of the logits begins, for models that have one (SigLIP's loss).
    pub logit_bias_init_value: Option<f32>,
}

/// The kind of image tower.
#[derive(Clone, Debug, PartialEq)]
pub enum VisionConfig {
    /// A vision transformer.
    Vit(VitConfig),
    /// A ModifiedResNet.
    ResNet(ResNetConfig),
}

impl VisionConfig {
    /// Side of the square input in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.image_size,
            Self::ResNet(resnet) => resnet.image_size,
        }
    }
}

/// Sizes of a text tower.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the tokens.
    pub hidden_size: usize,
    /// Width inside the MLPs.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Longest text in tokens, start and end included.
    pub max_position_embeddings: usize,
    /// Activation of the MLPs.
    pub hidden_act: Activation,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f32,
    /// Where the feature of a text is taken.
    pub pooling: TextPooling,
}

/// Where in a row of ids the text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextPooling {
    /// At the largest id: OpenAI's and open_clip's rule, and transformers' where `eos_token_id` is 2.
    LargestId,
    /// At the first id equal to this one: transformers' rule otherwise.
    FirstEos(u32),
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is no JSON, or lacks a field, or has one of the wrong type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A field has a value for which there is no network.
    #[error("{field} is {got}; {expected}")]
    Unsupported {
        /// The field.
        field: String,
        /// Its value.
        got: String,
        /// What is understood.
        expected: String,
    },
    /// Sizes contradict each other.
    #[error("{0}")]
    Sizes(String),
    /// A state dict lacks a tensor from which a size is read.
    #[error("no tensor `{0}` from which to read the sizes of the network")]
    Missing(String),
}

impl ConfigError {
    pub(crate) fn unsupported(field: &str, got: impl ToString, expected: &str) -> Self {
        Self::Unsupported { field: field.to_owned(), got: got.to_string(), expected: expected.to_owned() }
    }
}

/// `layer_norm_eps` of every CLIP that does not say otherwise.
pub const LAYER_NORM_EPS: f32 = 1e-5;
/// `ln(1 / 0.07)`, the paper's initial temperature.
pub const LOGIT_SCALE_INIT: f32 = 2.659_26;
/// `ln 10`, SigLIP's initial temperature (arXiv 2303.15343, section 3.2).
pub const SIGLIP_LOGIT_SCALE_INIT: f32 = std::f32::consts::LN_10;
/// SigLIP's initial bias, under which almost all pairs are taken for negatives, as they are.
pub const SIGLIP_LOGIT_BIAS_INIT: f32 = -10.0;

pub(crate) fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::QuickGelu => "quick_gelu",
        Activation::Gelu => "gelu",
        Activation::Relu => "relu",
        Activation::Silu => "silu",
        Activation::Identity => "linear",
    }
}

impl ClipConfig {
    /// Checks that the sizes make a network.
    ///
    /// # Errors
    /// The first size that is zero, absurd, or no multiple of what it has to be.
    pub fn checked(self) -> Result<Self, ConfigError> {
        /// Far above any published model: a size beyond it is a damaged file, and would only exhaust the memory.
        const LARGEST: usize = 1 << 22;
        let text = &self.text;
        let mut sizes = vec![
            ("projection_dim", self.projection_dim),
            ("text vocab_size", text.vocab_size),
            ("text hidden_size", text.hidden_size),
            ("text intermediate_size", text.intermediate_size),
            ("text num_attention_heads", text.num_attention_heads),
            ("text max_position_embeddings", text.max_position_embeddings),
            ("image_size", self.vision.image_size()),
        ];
        let mut multiples = vec![("text hidden_size", text.hidden_size, "heads", text.num_attention_heads)];
        let mut layers = vec![("text num_hidden_layers", text.num_hidden_layers)];
        match &self.vision {
            VisionConfig::Vit(vit) => {
                sizes.extend([
                    ("vision hidden_size", vit.hidden_size),
                    ("vision intermediate_size", vit.intermediate_size),
                    ("vision num_attention_heads", vit.num_attention_heads),
                    ("patch_size", vit.patch_size),
                ]);
                layers.push(("vision num_hidden_layers", vit.num_hidden_layers));
                multiples.push(("vision hidden_size", vit.hidden_size, "heads", vit.num_attention_heads));
                if vit.patch_size > vit.image_size {
                    return Err(ConfigError::Sizes(format!(
                        "patch_size is {}, larger than image_size {}",
                        vit.patch_size, vit.image_size
                    )));
                }
            }
            VisionConfig::ResNet(resnet) => {
                sizes.extend([("width", resnet.width), ("heads", resnet.num_attention_heads)]);
                layers.extend(resnet.layers.map(|count| ("layers", count)));
                multiples.push(("width", resnet.width, "halves", 2));
                multiples.push(("image_size", resnet.image_size, "cells of 32 pixels", 32));
                multiples.push(("pooled width", resnet.pooled_size(), "heads", resnet.num_attention_heads));
            }
        }
        for (name, size) in sizes {
            if size == 0 || size > LARGEST {
                return Err(ConfigError::Sizes(format!("{name} is {size}; expected 1 to {LARGEST}")));
            }
        }
        if let Some((name, count)) = layers.iter().find(|(_, count)| *count > 4096) {
            return Err(ConfigError::Sizes(format!("{name} is {count}; expected at most 4096")));
        }
        for (name, size, what, parts) in multiples {
            if !size.is_multiple_of(parts) {
                return Err(ConfigError::Sizes(format!(
                    "{name} is {size}, which does not make {parts} {what}"
                )));
            }
        }
        Ok(self)
    }
}
