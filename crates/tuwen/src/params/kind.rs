//! What kind of layer a part is, by its name.

use std::fmt;

use serde::Serialize;

use super::tree::{Part, Usage};

/// A kind of layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Projections of queries, keys and values and of the result, and the products of attention.
    Attention,
    /// The two matrices between which a transformer layer is wide.
    Mlp,
    /// Vectors of tokens, positions, classes and patches.
    Embeddings,
    /// Convolutions.
    Convolutions,
    /// Layer and batch norms.
    Norms,
    /// From a tower into the joint space.
    Projections,
    /// Everything else.
    Other,
}

/// All that a model has of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindShare {
    /// The kind.
    pub kind: Kind,
    /// Number of learnable values.
    pub parameters: usize,
    /// Its share in the whole model, 0 to 1.
    pub share: f64,
    /// What it takes for one image.
    #[serde(skip_serializing_if = "Usage::is_nothing")]
    pub image: Usage,
    /// What it takes for one text.
    #[serde(skip_serializing_if = "Usage::is_nothing")]
    pub text: Usage,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Attention,
        Self::Mlp,
        Self::Embeddings,
        Self::Convolutions,
        Self::Norms,
        Self::Projections,
        Self::Other,
    ];

    /// The kind of a parameter or module by its path, in the words of transformers and PyTorch.
    pub(super) fn of(path: &str) -> Self {
        let has = |words: &[&str]| path.split('.').any(|part| words.iter().any(|word| part.contains(word)));
        let is = |words: &[&str]| path.split('.').any(|part| words.contains(&part));
        let norm_of_shortcut = path.contains("downsample.1");
        if has(&["norm", "layrnorm", "LayerNorm", "ln_"]) || is(&["bn1", "bn2", "bn3"]) || norm_of_shortcut {
            Self::Norms
        } else if has(&["embedding"]) {
            Self::Embeddings
        } else if has(&["attn", "attention"]) {
            Self::Attention
        } else if is(&["mlp", "fc1", "fc2", "intermediate", "output"]) {
            Self::Mlp
        } else if is(&["conv", "conv1", "conv2", "conv3", "downsample"]) {
            Self::Convolutions
        } else if has(&["proj"]) {
            Self::Projections
        } else {
            Self::Other
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Attention => "attention",
            Self::Mlp => "MLP",
            Self::Embeddings => "embeddings",
            Self::Convolutions => "convolutions",
            Self::Norms => "norms",
            Self::Projections => "projections",
            Self::Other => "other",
        })
    }
}

/// What a model has of each kind, most parameters first.
pub(super) fn shares(root: &Part) -> Vec<KindShare> {
    let none =
        |kind| KindShare { kind, parameters: 0, share: 0.0, image: Usage::default(), text: Usage::default() };
    let mut shares = Kind::ALL.map(none).to_vec();
    collect(root, &mut shares);
    shares.retain(|share| share.parameters > 0 || share.image.flops + share.text.flops > 0);
    shares.sort_by_key(|share| std::cmp::Reverse(share.parameters));
    for share in &mut shares {
        share.share = share.parameters as f64 / root.parameters.max(1) as f64;
    }
    shares
}

/// Adds what a part takes itself, without its parts, and then what these take.
fn collect(part: &Part, shares: &mut [KindShare]) {
    let kind = part.kind.unwrap_or_else(|| Kind::of(&part.path));
    let share = &mut shares[kind as usize];
    let inner: usize = part.parts.iter().map(|inner| inner.parameters).sum();
    share.parameters += part.parameters - inner;
    share.image.add(&own(part, |part| &part.image));
    share.text.add(&own(part, |part| &part.text));
    part.parts.iter().for_each(|inner| collect(inner, shares));
}

/// What a part takes beyond its parts. The height of its memory is known for all of it only, and counts where it has
/// one kind.
fn own(part: &Part, usage: impl Fn(&Part) -> &Usage) -> Usage {
    let mut own = *usage(part);
    for inner in part.parts.iter().map(usage) {
        own.flops -= inner.flops;
        own.training_bytes -= inner.training_bytes;
        own.key_value_bytes -= inner.key_value_bytes;
    }
    if part.kind.is_none() {
        own.inference_bytes = 0;
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_kinds() {
        for (path, kind) in [
            ("vision_model.encoder.layers.0.self_attn.q_proj.weight", Kind::Attention),
            ("vision_model.attnpool.c_proj.bias", Kind::Attention),
            ("vision_model.attnpool.positional_embedding", Kind::Embeddings),
            ("text_model.encoder.layers.0.mlp.fc2.bias", Kind::Mlp),
            ("vision_model.embeddings.patch_embedding.weight", Kind::Embeddings),
            ("vision_model.embeddings", Kind::Embeddings),
            ("vision_model.pre_layrnorm.weight", Kind::Norms),
            ("text_model.encoder.layers.0.layer_norm1.bias", Kind::Norms),
            ("vision_model.layer1.0.downsample.0.weight", Kind::Convolutions),
            ("vision_model.layer1.0.downsample.1.weight", Kind::Norms),
            ("vision_model.layer1.0.bn2.weight", Kind::Norms),
            ("vision_model.layer1.0.conv2", Kind::Convolutions),
            ("visual_projection.weight", Kind::Projections),
            ("logit_scale", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(Kind::of(path), kind, "{path}");
        }
    }
}
