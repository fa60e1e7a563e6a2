//! `open_clip_config.json`, and the `model_cfg` in it (open_clip `model.py`: `CLIPVisionCfg`, `CLIPTextCfg`).

use serde::Deserialize;
use serde_json::{Value, json};
use tuwen_tensor::Activation;

use super::{
    ClipConfig, ConfigError, LAYER_NORM_EPS, LOGIT_SCALE_INIT, TextConfig, TextPooling, VisionConfig,
};
use crate::{ResNetConfig, VitConfig};

/// Side of an attention head unless given.
const HEAD_WIDTH: usize = 64;
/// Side of a patch unless given.
const PATCH_SIZE: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    embed_dim: usize,
    vision_cfg: Vision,
    text_cfg: Text,
    #[serde(default)]
    quick_gelu: bool,
    /// Changes the names of parameters only.
    #[serde(default, rename = "custom_text")]
    _custom_text: bool,
    init_logit_scale: Option<f32>,
    init_logit_bias: Option<f32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Layers {
    Vit(usize),
    ResNet([usize; 4]),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vision {
    #[serde(default = "default_vision_layers")]
    layers: Layers,
    #[serde(default = "default_vision_width")]
    width: usize,
    #[serde(default = "default_head_width")]
    head_width: usize,
    #[serde(default = "default_mlp_ratio")]
    mlp_ratio: f64,
    /// Null for a ResNet.
    patch_size: Option<usize>,
    #[serde(default = "default_image_size")]
    image_size: usize,
    /// Matters in training only.
    #[serde(default, rename = "patch_dropout")]
    _patch_dropout: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default = "default_context_length")]
    context_length: usize,
    #[serde(default = "default_vocab_size")]
    vocab_size: usize,
    #[serde(default = "default_text_width")]
    width: usize,
    #[serde(default = "default_text_heads")]
    heads: usize,
    #[serde(default = "default_text_layers")]
    layers: usize,
    #[serde(default = "default_mlp_ratio")]
    mlp_ratio: f64,
    /// Which tokenizer goes with the model; the tokenizer's own files say more.
    #[serde(default, rename = "hf_tokenizer_name")]
    _hf_tokenizer_name: Option<String>,
    #[serde(default, rename = "tokenizer_kwargs")]
    _tokenizer_kwargs: Option<Value>,
}

fn default_vision_layers() -> Layers {
    Layers::Vit(12)
}
fn default_vision_width() -> usize {
    768
}
fn default_head_width() -> usize {
    HEAD_WIDTH
}
fn default_mlp_ratio() -> f64 {
    4.0
}
fn default_image_size() -> usize {
    224
}
fn default_context_length() -> usize {
    77
}
fn default_vocab_size() -> usize {
    49408
}
fn default_text_width() -> usize {
    512
}
fn default_text_heads() -> usize {
    8
}
fn default_text_layers() -> usize {
    12
}

impl ClipConfig {
    /// Reads `open_clip_config.json`; some repositories leave out the wrapper around `model_cfg`.
    ///
    /// # Errors
    /// What is no JSON, and every option that would change the computation and is not known here.
    pub fn from_open_clip_json(text: &str) -> Result<Self, ConfigError> {
        let mut config: Value = serde_json::from_str(text)?;
        let model = match config.get_mut("model_cfg") {
            Some(model) => model.take(),
            None => config,
        };
        let Model { embed_dim, vision_cfg, text_cfg, quick_gelu, init_logit_scale, init_logit_bias, .. } =
            serde_json::from_value(model)?;
        let hidden_act = if quick_gelu { Activation::QuickGelu } else { Activation::Gelu };
        let inner = |width: usize, ratio: f64| (width as f64 * ratio) as usize;
        let Vision { width, head_width, image_size, .. } = vision_cfg;
        if head_width == 0 {
            return Err(ConfigError::unsupported("vision_cfg.head_width", 0, "expected at least 1"));
        }
        let vision = match vision_cfg.layers {
            Layers::Vit(num_hidden_layers) => VisionConfig::Vit(VitConfig {
                hidden_size: width,
                intermediate_size: inner(width, vision_cfg.mlp_ratio),
                num_hidden_layers,
                num_attention_heads: width / head_width,
                image_size,
                patch_size: vision_cfg.patch_size.unwrap_or(PATCH_SIZE),
                hidden_act,
                layer_norm_eps: LAYER_NORM_EPS,
            }),
            Layers::ResNet(layers) => VisionConfig::ResNet(ResNetConfig {
                width,
                layers,
                num_attention_heads: width.saturating_mul(32) / head_width,
                image_size,
            }),
        };
        let text = TextConfig {
            vocab_size: text_cfg.vocab_size,
            hidden_size: text_cfg.width,
            intermediate_size: inner(text_cfg.width, text_cfg.mlp_ratio),
            num_hidden_layers: text_cfg.layers,
            num_attention_heads: text_cfg.heads,
            max_position_embeddings: text_cfg.context_length,
            hidden_act,
            layer_norm_eps: LAYER_NORM_EPS,
            pooling: TextPooling::LargestId,
        };
        Self {
            vision,
            text,
            projection_dim: embed_dim,
            logit_scale_init_value: init_logit_scale.unwrap_or(LOGIT_SCALE_INIT),
            logit_bias_init_value: init_logit_bias,
        }
        .checked()
    }

    /// Writes the `model_cfg` of `open_clip_config.json`; `None` where open_clip cannot say it.
    pub fn to_open_clip_json(&self) -> Option<Value> {
        let text = &self.text;
        // open_clip multiplies and drops what is behind the point, so half of one more keeps clear of rounding.
        let ratio = |inner: usize, width: usize| match inner % width {
            0 => inner as f64 / width as f64,
            _ => (inner as f64 + 0.5) / width as f64,
        };
        let (mut vision, hidden_act) = match &self.vision {
            VisionConfig::Vit(vit) => {
                let vision = json!({
                    "layers": vit.num_hidden_layers,
                    "width": vit.hidden_size,
                    "head_width": vit.hidden_size / vit.num_attention_heads,
                    "mlp_ratio": ratio(vit.intermediate_size, vit.hidden_size),
                    "patch_size": vit.patch_size,
                });
                (vision, vit.hidden_act)
            }
            VisionConfig::ResNet(resnet) => {
                let vision = json!({
                    "layers": resnet.layers,
                    "width": resnet.width,
                    "head_width": resnet.pooled_size() / resnet.num_attention_heads,
                });
                (vision, text.hidden_act)
            }
        };
        vision["image_size"] = self.vision.image_size().into();
        if hidden_act != text.hidden_act {
            return None;
        }
        let mut model = json!({
            "embed_dim": self.projection_dim,
            "quick_gelu": hidden_act == Activation::QuickGelu,
            "vision_cfg": vision,
            "text_cfg": {
                "context_length": text.max_position_embeddings,
                "vocab_size": text.vocab_size,
                "width": text.hidden_size,
                "heads": text.num_attention_heads,
                "layers": text.num_hidden_layers,
                "mlp_ratio": ratio(text.intermediate_size, text.hidden_size),
            },
        });
        if let Some(bias) = self.logit_bias_init_value {
            model["init_logit_bias"] = f64::from(bias).into();
            model["init_logit_scale"] = f64::from(self.logit_scale_init_value).into();
        }
        Some(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::presets;

    #[test]
    fn what_is_written_is_read() {
        for name in presets::names() {
            let config = presets::find(name).expect("published");
            let json =
                json!({ "model_cfg": config.to_open_clip_json().expect("open_clip has it") }).to_string();
            assert_eq!(ClipConfig::from_open_clip_json(&json).expect("read"), config, "{name}");
        }
    }

    #[test]
    fn a_resnet_may_have_a_patch_size_of_null() {
        let vision = r#"{"layers": [3, 4, 6, 3], "width": 64, "patch_size": null}"#;
        let json = format!(r#"{{"embed_dim": 1024, "vision_cfg": {vision}, "text_cfg": {{}}}}"#);
        let config = ClipConfig::from_open_clip_json(&json).expect("read");
        assert!(matches!(config.vision, VisionConfig::ResNet(_)), "{:?}", config.vision);
    }

    #[test]
    fn odd_widths_of_mlps_survive() {
        for width in [24, 40, 48, 56, 104] {
            for intermediate_size in width..5 * width {
                let mut config = presets::find("clip-rn50").expect("published");
                (config.text.hidden_size, config.text.num_attention_heads) = (width, 8);
                config.text.intermediate_size = intermediate_size;
                let json = config.to_open_clip_json().expect("open_clip has it").to_string();
                assert_eq!(ClipConfig::from_open_clip_json(&json).expect("read"), config);
            }
        }
    }

    #[test]
    fn options_that_change_the_network_are_refused_by_name() {
        for (vision, expected) in [
            (r#"{"timm_model_name": "vit_base"}"#, "timm_model_name"),
            (r#"{"ls_init_value": 0.1}"#, "ls_init_value"),
            (r#"{"layers": [3, 4, 6]}"#, "Layers"),
            (r#"{"head_width": 0}"#, "head_width is 0"),
            (r#"{"head_width": 50}"#, "does not make 15 heads"),
        ] {
            let json = format!(r#"{{"embed_dim": 512, "vision_cfg": {vision}, "text_cfg": {{}}}}"#);
            let message = ClipConfig::from_open_clip_json(&json).expect_err(vision).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
