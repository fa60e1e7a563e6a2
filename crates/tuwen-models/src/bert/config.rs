//! Sizes of a BERT.

use tuwen_tensor::Activation;

use crate::{ConfigError, sizes};

/// `layer_norm_eps` of every BERT here.
pub const LAYER_NORM_EPS: f32 = 1e-12;

/// Sizes of a BERT.
#[derive(Clone, Debug, PartialEq)]
pub struct BertConfig {
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
    /// Number of token types, where it has embeddings of them (ALBEF); all tokens are of the first.
    pub type_vocab_size: Option<usize>,
    /// Activation of the MLPs and of the head.
    pub hidden_act: Activation,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f32,
    /// Where it looks at other states, if it does.
    pub cross_attention: Option<CrossAttentionConfig>,
}

/// Which layers look at which states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossAttentionConfig {
    /// Width of the states that are looked at.
    pub encoder_width: usize,
    /// The first layer that looks at them: 0 in BLIP, `fusion_layer` in ALBEF.
    pub first_layer: usize,
    /// Every how manieth layer from there on: 1 but for BLIP-2's Q-Former.
    pub every: usize,
    /// How many states each such layer looks at.
    pub images: CrossImages,
}

/// How many states a layer looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossImages {
    /// Those of one image.
    One,
    /// Those of two images, each with an attention of its own (BLIP's NLVR2).
    Two {
        /// From this layer on a linear layer joins what was seen; before it is averaged.
        merge_from: usize,
    },
}

impl CrossAttentionConfig {
    /// Every layer looks at one image.
    pub fn everywhere(encoder_width: usize) -> Self {
        Self { encoder_width, first_layer: 0, every: 1, images: CrossImages::One }
    }

    /// Whether a layer looks at other states.
    pub fn is_in(&self, layer: usize) -> bool {
        layer >= self.first_layer && (layer - self.first_layer).is_multiple_of(self.every)
    }
}

impl BertConfig {
    /// Checks that the sizes make a network; `part` stands before their names.
    ///
    /// # Errors
    /// The first size that is zero, absurd, or no multiple of what it has to be.
    pub fn check(&self, part: &str) -> Result<(), ConfigError> {
        let name = |size: &str| format!("{part} {size}");
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size.unwrap_or(1)),
            ("encoder_width", self.cross_attention.map_or(1, |cross| cross.encoder_width)),
            ("cross-attention frequency", self.cross_attention.map_or(1, |cross| cross.every)),
        ];
        for (size, value) in sizes {
            sizes::in_range(&[(&name(size), value)])?;
        }
        sizes::layers(&name("num_hidden_layers"), self.num_hidden_layers)?;
        sizes::heads(&name("hidden_size"), self.hidden_size, self.num_attention_heads)
    }
}
