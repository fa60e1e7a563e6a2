//! `config.json` of transformers' `CLIPModel`.

use serde::Deserialize;
use serde_json::{Value, json};
use tuwen_tensor::Activation;

use super::{
    ClipConfig, ConfigError, LAYER_NORM_EPS, LOGIT_SCALE_INIT, TextConfig, TextPooling, VisionConfig,
    activation_name,
};
use crate::VitConfig;

/// The fields that are read, with the defaults of `CLIPTextConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct Text {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    hidden_act: String,
    layer_norm_eps: f32,
    eos_token_id: Option<u32>,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: LAYER_NORM_EPS,
            eos_token_id: Some(49407),
        }
    }
}

/// The fields that are read, with the defaults of `CLIPVisionConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct Vision {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: String,
    layer_norm_eps: f32,
}

impl Default for Vision {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: LAYER_NORM_EPS,
        }
    }
}

/// A part of the configuration, overridden field by field by its `..._dict` twin of old files.
fn part<T: for<'de> Deserialize<'de>>(config: &Value, name: &str) -> Result<T, ConfigError> {
    let mut fields = match config.get(name) {
        Some(Value::Object(fields)) => fields.clone(),
        None | Some(Value::Null) => serde_json::Map::new(),
        Some(other) => return Err(ConfigError::unsupported(name, other, "expected an object")),
    };
    if let Some(Value::Object(twin)) = config.get(format!("{name}_dict")) {
        fields.extend(twin.clone());
    }
    Ok(serde_json::from_value(Value::Object(fields))?)
}

pub(crate) fn activation(field: &str, name: &str) -> Result<Activation, ConfigError> {
    match name {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::Gelu),
        _ => Err(ConfigError::unsupported(field, format!("{name:?}"), "expected \"quick_gelu\" or \"gelu\"")),
    }
}

impl ClipConfig {
    /// Reads `config.json` (transformers `configuration_clip.py`); fields left out have the class's defaults.
    ///
    /// # Errors
    /// What is no JSON or no CLIP, unknown activations, and sizes that make no network.
    pub fn from_hf_json(text: &str) -> Result<Self, ConfigError> {
        let config: Value = serde_json::from_str(text)?;
        match config.get("model_type").and_then(Value::as_str) {
            Some("clip") => {}
            other => {
                let got = other.map_or("missing".into(), |name| format!("{name:?}"));
                return Err(ConfigError::unsupported("model_type", got, "expected \"clip\""));
            }
        }
        let text: Text = part(&config, "text_config")?;
        let vision: Vision = part(&config, "vision_config")?;
        if vision.num_channels != 3 {
            return Err(ConfigError::unsupported("num_channels", vision.num_channels, "expected 3"));
        }
        let number = |name: &str, default: f64| match config.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => {
                value.as_f64().ok_or_else(|| ConfigError::unsupported(name, value, "expected a number"))
            }
        };
        Self {
            vision: VisionConfig::Vit(VitConfig {
                hidden_act: activation("vision_config.hidden_act", &vision.hidden_act)?,
                hidden_size: vision.hidden_size,
                intermediate_size: vision.intermediate_size,
                num_hidden_layers: vision.num_hidden_layers,
                num_attention_heads: vision.num_attention_heads,
                image_size: vision.image_size,
                patch_size: vision.patch_size,
                layer_norm_eps: vision.layer_norm_eps,
            }),
            text: TextConfig {
                hidden_act: activation("text_config.hidden_act", &text.hidden_act)?,
                vocab_size: text.vocab_size,
                hidden_size: text.hidden_size,
                intermediate_size: text.intermediate_size,
                num_hidden_layers: text.num_hidden_layers,
                num_attention_heads: text.num_attention_heads,
                max_position_embeddings: text.max_position_embeddings,
                layer_norm_eps: text.layer_norm_eps,
                // Published configurations hold a wrong 2, for which transformers pools at the largest id.
                pooling: match text.eos_token_id {
                    None | Some(2) => TextPooling::LargestId,
                    Some(eos) => TextPooling::FirstEos(eos),
                },
            },
            projection_dim: number("projection_dim", 512.0)? as usize,
            logit_scale_init_value: number("logit_scale_init_value", f64::from(LOGIT_SCALE_INIT))? as f32,
            logit_bias_init_value: None,
        }
        .checked()
    }

    /// Writes `config.json`; `None` for a network that transformers does not have.
    pub fn to_hf_json(&self) -> Option<Value> {
        let VisionConfig::Vit(vit) = &self.vision else { return None };
        if self.logit_bias_init_value.is_some() {
            return None;
        }
        let text = &self.text;
        let (bos, eos) = match text.pooling {
            TextPooling::FirstEos(eos) => (eos.saturating_sub(1), eos),
            TextPooling::LargestId => (0, 2),
        };
        Some(json!({
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": self.projection_dim,
            "logit_scale_init_value": self.logit_scale_init_value,
            "dtype": "float32",
            "text_config": {
                "model_type": "clip_text_model",
                "vocab_size": text.vocab_size,
                "hidden_size": text.hidden_size,
                "intermediate_size": text.intermediate_size,
                "num_hidden_layers": text.num_hidden_layers,
                "num_attention_heads": text.num_attention_heads,
                "max_position_embeddings": text.max_position_embeddings,
                "hidden_act": activation_name(text.hidden_act),
                "layer_norm_eps": text.layer_norm_eps,
                "projection_dim": self.projection_dim,
                "bos_token_id": bos,
                "eos_token_id": eos,
                "pad_token_id": eos,
            },
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": vit.hidden_size,
                "intermediate_size": vit.intermediate_size,
                "num_hidden_layers": vit.num_hidden_layers,
                "num_attention_heads": vit.num_attention_heads,
                "num_channels": 3,
                "image_size": vit.image_size,
                "patch_size": vit.patch_size,
                "hidden_act": activation_name(vit.hidden_act),
                "layer_norm_eps": vit.layer_norm_eps,
                "projection_dim": self.projection_dim,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::presets;

    #[test]
    fn left_out_fields_are_those_of_vit_b_32() {
        let config = ClipConfig::from_hf_json(r#"{"model_type": "clip"}"#).expect("defaults");
        let preset = presets::find("clip-vit-base-patch32").expect("published");
        assert_eq!((&config.vision, config.projection_dim), (&preset.vision, preset.projection_dim));
        assert_eq!(config.text.pooling, TextPooling::FirstEos(49407));
    }

    #[test]
    fn what_is_written_is_read() {
        for eos in [TextPooling::FirstEos(7), TextPooling::LargestId] {
            let mut config = presets::find("clip-vit-large-patch14-336").expect("published");
            config.text.pooling = eos;
            let json = config.to_hf_json().expect("transformers has it").to_string();
            assert_eq!(ClipConfig::from_hf_json(&json).expect("read"), config);
        }
        assert!(presets::find("clip-rn50").expect("published").to_hf_json().is_none());
    }

    #[test]
    fn twins_of_old_files_override() {
        let json = r#"{"model_type": "clip", "text_config": {"hidden_size": 64, "vocab_size": 99},
            "text_config_dict": {"hidden_size": 32}, "vision_config_dict": null}"#;
        let text = ClipConfig::from_hf_json(json).expect("read").text;
        assert_eq!((text.hidden_size, text.vocab_size), (32, 99));
    }

    #[test]
    fn another_network_is_an_error() {
        for (json, expected) in [
            (r#"{"model_type": "blip"}"#, "model_type is \"blip\""),
            (r#"{}"#, "model_type is missing"),
            (
                r#"{"model_type": "clip", "text_config": {"hidden_act": "swish"}}"#,
                "text_config.hidden_act is \"swish\"",
            ),
            (r#"{"model_type": "clip", "vision_config": {"num_channels": 4}}"#, "num_channels is 4"),
            (r#"{"model_type": "clip", "vision_config": {"patch_size": 0}}"#, "patch_size is 0"),
            (r#"{"model_type": "clip", "text_config": {"num_attention_heads": 7}}"#, "does not make 7 heads"),
            (
                r#"{"model_type": "clip", "text_config": {"vocab_size": 99999999999}}"#,
                "vocab_size is 99999999999",
            ),
            (r#"{"model_type": "clip", "projection_dim": "wide"}"#, "projection_dim"),
            ("[", "EOF"),
        ] {
            let message = ClipConfig::from_hf_json(json).expect_err(json).to_string();
            assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        }
    }
}
