//! Published architectures by name (spec: openai/CLIP model card, open_clip `model_configs/*.json`).

use tuwen_tensor::Activation;

use super::config::{ClipConfig, LAYER_NORM_EPS, LOGIT_SCALE_INIT, TextConfig, TextPooling, VisionConfig};
use crate::{ResNetConfig, VitConfig};

mod table;

use table::PRESETS;

/// A row of the table of variants.
struct Preset {
    name: &'static str,
    /// What else it is called; nothing where it has one name.
    alias: &'static str,
    projection_dim: usize,
    image_size: usize,
    vision: Tower,
    /// Width and layers; heads are 64 wide.
    text: [usize; 2],
    hidden_act: Activation,
}

enum Tower {
    Vit { width: usize, mlp: usize, layers: usize, heads: usize, patch: usize },
    ResNet { width: usize, layers: [usize; 4] },
}

const fn vit(width: usize, layers: usize, heads: usize, patch: usize) -> Tower {
    Tower::Vit { width, mlp: 4 * width, layers, heads, patch }
}

const fn resnet(width: usize, layers: [usize; 4]) -> Tower {
    Tower::ResNet { width, layers }
}

/// The names of all published architectures.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|preset| preset.name)
}

/// What open_clip appends to a name for OpenAI's activation.
const QUICK_GELU: &str = "-quickgelu";

/// The configuration of a published architecture; upper and lower case do not matter.
///
/// It is called as in the Hugging Face hub (`clip-vit-base-patch32`, `openai/clip-rn50`), as by OpenAI (`ViT-B/32`,
/// `ViT-L/14@336px`, `RN50`), or as by open_clip (`ViT-H-14`, `ViT-B-32-quickgelu`), perhaps with `clip-` before it. As
/// in the sources, `ViT-B/32` has QuickGELU and open_clip's `ViT-B-32` has GELU; ResNets are OpenAI's under each name.
pub fn find(name: &str) -> Option<ClipConfig> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("openai/").unwrap_or(&name);
    let name = name.strip_suffix("px").unwrap_or(name);
    named(name).or_else(|| {
        let mut config = named(name.strip_suffix(QUICK_GELU)?)?;
        config.text.hidden_act = Activation::QuickGelu;
        if let VisionConfig::Vit(vit) = &mut config.vision {
            vit.hidden_act = Activation::QuickGelu;
        }
        Some(config)
    })
}

/// The configuration of a row that is called so in one spelling or another.
fn named(name: &str) -> Option<ClipConfig> {
    let bare = name.strip_prefix("clip-").unwrap_or(name);
    let is =
        |known: &str| !known.is_empty() && [name, bare].iter().any(|name| known.eq_ignore_ascii_case(name));
    PRESETS.iter().find(|preset| is(preset.name) || is(preset.alias)).map(Preset::config)
}

impl Preset {
    fn config(&self) -> ClipConfig {
        let hidden_act = self.hidden_act;
        let layer_norm_eps = LAYER_NORM_EPS;
        let vision = match self.vision {
            Tower::Vit { width, mlp, layers, heads, patch } => VisionConfig::Vit(VitConfig {
                hidden_size: width,
                intermediate_size: mlp,
                num_hidden_layers: layers,
                num_attention_heads: heads,
                image_size: self.image_size,
                patch_size: patch,
                hidden_act,
                layer_norm_eps,
            }),
            Tower::ResNet { width, layers } => VisionConfig::ResNet(ResNetConfig {
                width,
                layers,
                num_attention_heads: width / 2,
                image_size: self.image_size,
            }),
        };
        let [width, layers] = self.text;
        ClipConfig {
            vision,
            text: TextConfig {
                vocab_size: 49408,
                hidden_size: width,
                intermediate_size: 4 * width,
                num_hidden_layers: layers,
                num_attention_heads: width / 64,
                max_position_embeddings: 77,
                hidden_act,
                layer_norm_eps,
                pooling: TextPooling::LargestId,
            },
            projection_dim: self.projection_dim,
            logit_scale_init_value: LOGIT_SCALE_INIT,
            logit_bias_init_value: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tuwen_nn::Scope;

    use super::*;
    use crate::clip::Clip;

    /// Totals as published (openai/CLIP notebooks, open_clip `model_profile.csv`).
    #[test]
    fn published_totals_are_exact() {
        for (name, total) in [
            ("RN50", 102_007_137),
            ("RN101", 119_688_033),
            ("RN50x4", 178_300_601),
            ("RN50x16", 290_979_217),
            ("RN50x64", 623_258_305),
            ("ViT-B/32", 151_277_313),
            ("ViT-B/16", 149_620_737),
            ("ViT-L/14", 427_616_513),
            ("ViT-L/14@336", 427_944_193),
            ("ViT-H-14", 986_109_441),
        ] {
            let config = find(name).expect(name);
            let clip = Clip::new(&config, Scope::count()).expect("nothing is loaded");
            assert_eq!(clip.parameters().total(), total, "{name}");
        }
        assert!(find("ViT-Z/99").is_none() && find("").is_none() && find("-quickgelu").is_none());
    }

    #[test]
    fn a_name_has_the_activation_of_its_source() {
        let activation = |name: &str| {
            let config = find(name).expect(name);
            let VisionConfig::Vit(vit) = config.vision else { panic!("{name} is a ViT") };
            assert_eq!(vit.hidden_act, config.text.hidden_act, "{name}");
            vit.hidden_act
        };
        for name in ["ViT-B/32", "openai/clip-vit-base-patch32", "ViT-L/14@336px", "vit-b-32-QuickGELU"] {
            assert_eq!(activation(name), Activation::QuickGelu, "{name}");
        }
        for name in ["ViT-B-32", "clip-vit-g-14", "clip-vit-huge-patch14"] {
            assert_eq!(activation(name), Activation::Gelu, "{name}");
        }
        assert_eq!(find("RN50-quickgelu"), find("openai/clip-rn50"));
    }
}
