//! Published architectures by name (spec: openai/CLIP model card, open_clip `model_configs/*.json`).

use tuwen_tensor::Activation;

use super::config::{ClipConfig, LAYER_NORM_EPS, LOGIT_SCALE_INIT, TextConfig, TextPooling, VisionConfig};
use crate::{ResNetConfig, VitConfig};

/// A row of the table of variants.
struct Preset {
    name: &'static str,
    /// What open_clip and OpenAI call it.
    alias: &'static str,
    projection_dim: usize,
    image_size: usize,
    vision: Tower,
    /// Width and layers; heads are 64 wide.
    text: [usize; 2],
    hidden_act: Activation,
}

enum Tower {
    Vit { width: usize, layers: usize, heads: usize, patch: usize },
    ResNet { width: usize, layers: [usize; 4] },
}

const fn vit(width: usize, layers: usize, heads: usize, patch: usize) -> Tower {
    Tower::Vit { width, layers, heads, patch }
}

const fn resnet(width: usize, layers: [usize; 4]) -> Tower {
    Tower::ResNet { width, layers }
}

macro_rules! preset {
    ($name:literal, $alias:literal, $dim:literal, $size:literal, $vision:expr, $text:expr, $act:ident) => {
        Preset {
            name: $name,
            alias: $alias,
            projection_dim: $dim,
            image_size: $size,
            vision: $vision,
            text: $text,
            hidden_act: Activation::$act,
        }
    };
}

#[rustfmt::skip] // a table
const PRESETS: [Preset; 10] = [
    preset!("clip-vit-base-patch32",      "ViT-B-32",     512, 224, vit(768, 12, 12, 32),  [512, 12], QuickGelu),
    preset!("clip-vit-base-patch16",      "ViT-B-16",     512, 224, vit(768, 12, 12, 16),  [512, 12], QuickGelu),
    preset!("clip-vit-large-patch14",     "ViT-L-14",     768, 224, vit(1024, 24, 16, 14), [768, 12], QuickGelu),
    preset!("clip-vit-large-patch14-336", "ViT-L-14-336", 768, 336, vit(1024, 24, 16, 14), [768, 12], QuickGelu),
    preset!("clip-vit-huge-patch14",      "ViT-H-14",    1024, 224, vit(1280, 32, 16, 14), [1024, 24], Gelu),
    preset!("clip-rn50",    "RN50",    1024, 224, resnet(64, [3, 4, 6, 3]),     [512, 12],  QuickGelu),
    preset!("clip-rn101",   "RN101",    512, 224, resnet(64, [3, 4, 23, 3]),    [512, 12],  QuickGelu),
    preset!("clip-rn50x4",  "RN50x4",   640, 288, resnet(80, [4, 6, 10, 6]),    [640, 12],  QuickGelu),
    preset!("clip-rn50x16", "RN50x16",  768, 384, resnet(96, [6, 8, 18, 8]),    [768, 12],  QuickGelu),
    preset!("clip-rn50x64", "RN50x64", 1024, 448, resnet(128, [3, 15, 36, 10]), [1024, 12], QuickGelu),
];

/// The names of all published architectures.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|preset| preset.name)
}

/// The configuration of a published architecture by its name (`clip-vit-base-patch32`, `openai/clip-rn50`) or
/// open_clip's (`ViT-B-32`, `ViT-B/32`); upper and lower case do not matter.
pub fn find(name: &str) -> Option<ClipConfig> {
    let name = name.strip_prefix("openai/").unwrap_or(name).replace(['/', '@'], "-");
    let fits =
        |preset: &&Preset| [preset.name, preset.alias].iter().any(|known| known.eq_ignore_ascii_case(&name));
    PRESETS.iter().find(fits).map(Preset::config)
}

impl Preset {
    fn config(&self) -> ClipConfig {
        let hidden_act = self.hidden_act;
        let layer_norm_eps = LAYER_NORM_EPS;
        let vision = match self.vision {
            Tower::Vit { width, layers, heads, patch } => VisionConfig::Vit(VitConfig {
                hidden_size: width,
                intermediate_size: 4 * width,
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
        assert!(find("ViT-Z/99").is_none());
    }
}
