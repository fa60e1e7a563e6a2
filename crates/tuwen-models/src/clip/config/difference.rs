//! How two networks differ, and whether weights have the sizes of a configuration.

use std::fmt;

use tuwen_tensor::checkpoint::TensorSource;

use super::{ClipConfig, VisionConfig, activation_name};
use crate::clip::weights::to_open_clip;

/// Something in which two networks differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, Hugging Face's spelling behind the tower: `vision hidden_size`.
    pub field: &'static str,
    /// Its value in the one.
    pub ours: String,
    /// Its value in the other.
    pub theirs: String,
}

/// What shapes do not tell.
const NOT_IN_SHAPES: [&str; 7] = [
    "vision num_attention_heads",
    "vision hidden_act",
    "vision layer_norm_eps",
    "text num_attention_heads",
    "text hidden_act",
    "text layer_norm_eps",
    "logit_bias",
];

impl ClipConfig {
    /// The first thing in which another network computes something else. Where a text ends and how a training begins
    /// does not count.
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        let pairs = self.fields().into_iter().zip(other.fields());
        let mut differences = pairs.filter(|(ours, theirs)| ours != theirs);
        differences.next().map(|((field, ours), (_, theirs))| Difference { field, ours, theirs })
    }

    /// The first size in which weights under our names differ from this configuration. Weights that are incomplete
    /// or have strange shapes are not judged: the report of a load says more.
    pub fn misfit(&self, weights: &dyn TensorSource) -> Option<Difference> {
        let mut shapes = Self::sizes_of_state_dict(&to_open_clip(weights)).ok()?;
        if let (VisionConfig::Vit(theirs), VisionConfig::Vit(ours)) = (&mut shapes.vision, &self.vision) {
            // Of an image that is no multiple of a patch the rest does not show.
            if theirs.patch_size == ours.patch_size && theirs.image_size == whole_patches(ours) {
                theirs.image_size = ours.image_size;
            }
        }
        let pairs = self.fields().into_iter().zip(shapes.fields());
        let mut told = pairs.filter(|((field, _), _)| !NOT_IN_SHAPES.contains(field));
        let different = told.find(|(ours, theirs)| ours != theirs);
        different.map(|((field, ours), (_, theirs))| Difference { field, ours, theirs })
    }

    /// Everything that decides what the network computes, by name. Image towers of different kinds differ in the
    /// first entry.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = match &self.vision {
            VisionConfig::Vit(vit) => vec![
                ("vision tower", "a ViT".to_owned()),
                ("vision hidden_size", vit.hidden_size.to_string()),
                ("vision intermediate_size", vit.intermediate_size.to_string()),
                ("vision num_hidden_layers", vit.num_hidden_layers.to_string()),
                ("vision patch_size", vit.patch_size.to_string()),
                ("vision image_size", vit.image_size.to_string()),
                ("vision num_attention_heads", vit.num_attention_heads.to_string()),
                ("vision hidden_act", activation_name(vit.hidden_act).to_owned()),
                ("vision layer_norm_eps", vit.layer_norm_eps.to_string()),
            ],
            VisionConfig::ResNet(resnet) => vec![
                ("vision tower", "a ResNet".to_owned()),
                ("vision width", resnet.width.to_string()),
                ("vision layers", format!("{:?}", resnet.layers)),
                ("vision image_size", resnet.image_size.to_string()),
                ("vision num_attention_heads", resnet.num_attention_heads.to_string()),
            ],
        };
        let text = &self.text;
        let logit_bias = if self.logit_bias_init_value.is_some() { "there" } else { "not there" };
        fields.extend([
            ("text hidden_size", text.hidden_size.to_string()),
            ("text intermediate_size", text.intermediate_size.to_string()),
            ("text num_hidden_layers", text.num_hidden_layers.to_string()),
            ("text vocab_size", text.vocab_size.to_string()),
            ("text max_position_embeddings", text.max_position_embeddings.to_string()),
            ("text num_attention_heads", text.num_attention_heads.to_string()),
            ("text hidden_act", activation_name(text.hidden_act).to_owned()),
            ("text layer_norm_eps", text.layer_norm_eps.to_string()),
            ("projection_dim", self.projection_dim.to_string()),
            ("logit_bias", logit_bias.to_owned()),
        ]);
        fields
    }
}

/// The part of the image side that patches cover.
fn whole_patches(vit: &crate::VitConfig) -> usize {
    vit.image_size / vit.patch_size.max(1) * vit.patch_size
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, not {}", self.field, self.ours, self.theirs)
    }
}

#[cfg(test)]
mod tests {
    use tuwen_nn::Scope;

    use super::*;
    use crate::clip::{Clip, presets};

    fn preset(name: &str) -> ClipConfig {
        presets::find(name).expect("published")
    }

    #[test]
    fn the_first_difference_is_named() {
        let mut config = preset("clip-vit-base-patch32");
        assert_eq!(config.difference(&config.clone()), None);
        let resnet = preset("clip-rn50");
        let difference = config.difference(&resnet).expect("another tower").to_string();
        assert_eq!(difference, "vision tower is a ViT, not a ResNet");
        config.logit_bias_init_value = Some(-10.0);
        let difference = config.difference(&preset("clip-vit-base-patch32")).expect("a bias");
        assert_eq!((difference.field, difference.ours.as_str()), ("logit_bias", "there"));
    }

    #[test]
    fn published_weights_fit_their_own_configuration_only() {
        let weights = |name| {
            let clip = Clip::new(&preset(name), Scope::count()).expect("counted");
            clip.parameters().clone()
        };
        for name in presets::names() {
            assert_eq!(preset(name).misfit(&weights(name)), None, "{name}");
        }
        let base = weights("clip-vit-base-patch32");
        for (name, expected) in [
            ("clip-vit-large-patch14", "vision hidden_size is 1024, not 768"),
            ("clip-vit-base-patch16", "vision patch_size is 16, not 32"),
            ("clip-rn50", "vision tower is a ResNet, not a ViT"),
        ] {
            assert_eq!(preset(name).misfit(&base).expect("does not fit").to_string(), expected);
        }
        let mut config = preset("clip-vit-base-patch32");
        config.text.num_hidden_layers = 13;
        assert_eq!(config.misfit(&base).expect("deeper").to_string(), "text num_hidden_layers is 13, not 12");
        // 230 pixels make seven patches as 224 do.
        let mut config = preset("clip-vit-base-patch32");
        if let VisionConfig::Vit(vit) = &mut config.vision {
            vit.image_size = 230;
        }
        assert_eq!(config.misfit(&base), None);
    }
}
