//! `config.json` of transformers' BLIP classes (`configuration_blip.py`).

use serde::Deserialize;
use serde_json::{Value, json};
use tuwen_tensor::Activation;

use super::{BlipConfig, BlipDialect, BlipTask, BlipTokens};
use crate::bert::{BertConfig, BertJson, CrossAttentionConfig, CrossImages, LAYER_NORM_EPS};
use crate::clip::config::{activation, activation_name};
use crate::{ConfigError, VitConfig};

/// The fields that are read.
#[derive(Deserialize)]
struct Json {
    model_type: Option<String>,
    #[serde(default)]
    text_config: Option<BertJson>,
    #[serde(default)]
    vision_config: Option<Vision>,
    #[serde(default)]
    image_text_hidden_size: Option<usize>,
    #[serde(default)]
    projection_dim: Option<usize>,
    /// What transformers has no word for: see [`BlipConfig::to_json`].
    #[serde(default)]
    dialect: Option<String>,
    #[serde(default)]
    answers: bool,
    #[serde(default)]
    merge_from: Option<usize>,
}

/// How a configuration says that texts begin as in the program of salesforce/BLIP.
const SALESFORCE: &str = "salesforce";

/// The fields of `BlipVisionConfig` that are read, with its defaults.
#[derive(Deserialize)]
#[serde(default)]
struct Vision {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
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
            image_size: 384,
            patch_size: 16,
            hidden_act: "gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

impl BlipConfig {
    /// Reads `config.json`; fields left out have the class's defaults. The weights tell the task.
    ///
    /// # Errors
    /// What is no JSON or no BLIP, unknown activations, and sizes that make no network.
    pub fn from_hf_json(text: &str, task: BlipTask) -> Result<Self, ConfigError> {
        let config: Json = serde_json::from_str(text)?;
        if config.model_type.as_deref() != Some("blip") {
            let got = config.model_type.map_or("missing".into(), |name| format!("{name:?}"));
            return Err(ConfigError::unsupported("model_type", got, "expected \"blip\""));
        }
        let dialect = match config.dialect.as_deref() {
            None => BlipDialect::HuggingFace,
            Some(SALESFORCE) => BlipDialect::Salesforce,
            Some(other) => {
                return Err(ConfigError::unsupported(
                    "dialect",
                    format!("{other:?}"),
                    "expected \"salesforce\"",
                ));
            }
        };
        let vision = config.vision_config.unwrap_or_default().config()?;
        let text = config.text_config.unwrap_or_default();
        // As the class does, whatever the file says of `encoder_hidden_size`.
        let mut bert = text_config(&text, vision.hidden_size)?;
        if task == BlipTask::Nlvr {
            let merge_from = config.merge_from.unwrap_or(bert.num_hidden_layers / 2);
            let everywhere = CrossAttentionConfig::everywhere(vision.hidden_size);
            let images = CrossImages::Two { merge_from };
            bert.cross_attention = Some(CrossAttentionConfig { images, ..everywhere });
        }
        let projected =
            if task == BlipTask::Joint { config.projection_dim } else { config.image_text_hidden_size };
        Self {
            task,
            dialect,
            tokens: tokens(&text),
            answer_decoder: (task == BlipTask::Vqa).then(|| bert.clone()),
            image_text_hidden_size: projected.unwrap_or(if task == BlipTask::Joint { 512 } else { 256 }),
            temperature: false,
            answers: task == BlipTask::Pretrain && config.answers,
            vision,
            text: bert,
        }
        .checked()
    }
}

impl BlipConfig {
    /// Writes `config.json`.
    ///
    /// # Errors
    /// Why transformers has no such network.
    pub fn to_hf_json(&self) -> Result<Value, &'static str> {
        let architecture = match self.task {
            BlipTask::Caption => "BlipForConditionalGeneration",
            BlipTask::Vqa => "BlipForQuestionAnswering",
            BlipTask::Retrieval => "BlipForImageTextRetrieval",
            BlipTask::Joint => "BlipModel",
            BlipTask::Features => return Err("its BLIP has no class of two encoders without heads"),
            BlipTask::Nlvr => return Err("its BLIP has no class for two images"),
            BlipTask::Pretrain => return Err("its BLIP has no class for pre-training"),
        };
        let vision = &self.vision;
        let decoder_width = self.answer_decoder.as_ref().and_then(|decoder| decoder.cross_attention);
        if decoder_width.is_some_and(|cross| cross.encoder_width != vision.hidden_size) {
            return Err(
                "its decoder of answers is as wide as the image encoder, that of this network is not",
            );
        }
        Ok(self.fields(architecture))
    }

    /// `config.json` of any network, as this program reads it again: with what transformers has no word for, which it leaves
    /// alone. Networks of pre-training and for two images are classes that it lacks.
    pub fn to_json(&self) -> Value {
        let architecture = if self.task == BlipTask::Nlvr { "BlipForNlvr2" } else { "BlipForPreTraining" };
        let mut json = self.to_hf_json().unwrap_or_else(|_| self.fields(architecture));
        let images = self.text.cross_attention.map(|cross| cross.images);
        if let Some(CrossImages::Two { merge_from }) = images {
            json["merge_from"] = merge_from.into();
        }
        if self.dialect == BlipDialect::Salesforce {
            json["dialect"] = SALESFORCE.into();
        }
        if self.answers {
            json["answers"] = true.into();
        }
        json
    }

    fn fields(&self, architecture: &str) -> Value {
        let (text, vision) = (&self.text, &self.vision);
        json!({
            "architectures": [architecture],
            "model_type": "blip",
            "dtype": "float32",
            "image_text_hidden_size": self.image_text_hidden_size,
            "projection_dim": self.image_text_hidden_size,
            "text_config": {
                "model_type": "blip_text_model",
                "bos_token_id": self.tokens.dec,
                "sep_token_id": self.tokens.sep,
                "pad_token_id": self.tokens.pad,
                "encoder_hidden_size": vision.hidden_size,
                "hidden_act": activation_name(text.hidden_act),
                "hidden_size": text.hidden_size,
                "intermediate_size": text.intermediate_size,
                "layer_norm_eps": text.layer_norm_eps,
                "max_position_embeddings": text.max_position_embeddings,
                "num_attention_heads": text.num_attention_heads,
                "num_hidden_layers": text.num_hidden_layers,
                "vocab_size": text.vocab_size,
            },
            "vision_config": {
                "model_type": "blip_vision_model",
                "hidden_act": activation_name(vision.hidden_act),
                "hidden_size": vision.hidden_size,
                "image_size": vision.image_size,
                "intermediate_size": vision.intermediate_size,
                "layer_norm_eps": vision.layer_norm_eps,
                "num_attention_heads": vision.num_attention_heads,
                "num_hidden_layers": vision.num_hidden_layers,
                "patch_size": vision.patch_size,
            },
        })
    }
}

impl Vision {
    fn config(self) -> Result<VitConfig, ConfigError> {
        Ok(VitConfig {
            hidden_act: activation("vision_config.hidden_act", &self.hidden_act)?,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            image_size: self.image_size,
            patch_size: self.patch_size,
            layer_norm_eps: self.layer_norm_eps,
        })
    }
}

/// With the defaults of `BlipTextConfig`, whose 8 heads are no published model's.
fn text_config(json: &BertJson, encoder_width: usize) -> Result<BertConfig, ConfigError> {
    Ok(BertConfig {
        vocab_size: json.vocab_size.unwrap_or(30524),
        hidden_size: json.hidden_size.unwrap_or(768),
        intermediate_size: json.intermediate_size.unwrap_or(3072),
        num_hidden_layers: json.num_hidden_layers.unwrap_or(12),
        num_attention_heads: json.num_attention_heads.unwrap_or(8),
        max_position_embeddings: json.max_position_embeddings.unwrap_or(512),
        type_vocab_size: None,
        hidden_act: json.activation("text_config.hidden_act")?.unwrap_or(Activation::Gelu),
        layer_norm_eps: json.layer_norm_eps.unwrap_or(LAYER_NORM_EPS),
        cross_attention: Some(CrossAttentionConfig::everywhere(encoder_width)),
    })
}

/// `[ENC]` is no field: it follows `[DEC]`.
fn tokens(json: &BertJson) -> BlipTokens {
    let dec = json.bos_token_id.unwrap_or(30522);
    BlipTokens {
        pad: json.pad_token_id.unwrap_or(0),
        cls: 101,
        sep: json.sep_token_id.unwrap_or(102),
        dec,
        enc: dec.saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blip::presets;

    #[test]
    fn left_out_fields_are_those_of_the_class() {
        let json = r#"{"model_type": "blip", "text_config": {"num_attention_heads": 12, "eos_token_id": 2},
            "vision_config": {"hidden_size": 1024, "num_attention_heads": 16}}"#;
        let config = BlipConfig::from_hf_json(json, BlipTask::Caption).expect("read");
        assert_eq!((config.vision.image_size, config.vision.layer_norm_eps), (384, 1e-5));
        assert_eq!((config.text.layer_norm_eps, config.text.vocab_size), (1e-12, 30524));
        assert_eq!(config.text.cross_attention, Some(CrossAttentionConfig::everywhere(1024)));
        assert_eq!(config.tokens, BlipTokens { pad: 0, cls: 101, sep: 102, dec: 30522, enc: 30523 });
        assert!(config.answer_decoder.is_none());
    }

    #[test]
    fn what_is_written_is_read() {
        for name in ["blip-image-captioning-large", "blip-itm-base-coco", "blip-vqa-base"] {
            let config = presets::find(name).expect("published");
            let json = config.to_hf_json().expect("transformers has it").to_string();
            let read = BlipConfig::from_hf_json(&json, config.task).expect("read");
            assert_eq!(read, BlipConfig { dialect: BlipDialect::HuggingFace, ..config }, "{name}");
        }
        for name in ["blip-base", "blip-nlvr-base", "blip-vqa-large"] {
            assert!(presets::find(name).expect("published").to_hf_json().is_err(), "{name}");
        }
    }

    #[test]
    fn a_network_for_two_images_is_read_as_it_is_written() {
        let config = presets::find("blip-nlvr-base").expect("published");
        let read = BlipConfig::from_hf_json(&config.to_json().to_string(), config.task).expect("read");
        assert_eq!(read, config);
    }

    #[test]
    fn another_network_is_an_error() {
        for (json, expected) in [
            (r#"{"model_type": "clip"}"#, "model_type is \"clip\""),
            (r#"{}"#, "model_type is missing"),
            (
                r#"{"model_type": "blip", "text_config": {"hidden_act": "swish"}}"#,
                "text_config.hidden_act is \"swish\"",
            ),
            (
                r#"{"model_type": "blip", "text_config": {"num_attention_heads": 7}}"#,
                "text hidden_size is 768, which does not make 7 heads",
            ),
            (r#"{"model_type": "blip", "vision_config": {"patch_size": 0}}"#, "patch_size is 0"),
            (r#"{"model_type": "blip", "text_config": {"num_hidden_layers": 99999}}"#, "num_hidden_layers"),
        ] {
            let error = BlipConfig::from_hf_json(json, BlipTask::Vqa).expect_err(json).to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}
