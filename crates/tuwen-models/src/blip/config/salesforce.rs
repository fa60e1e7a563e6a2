//! State dicts of salesforce/BLIP and LAVIS, which come without a configuration of the whole.

use serde::Deserialize;
use serde_json::Value;
use tuwen_tensor::checkpoint::TensorSource;

use super::{BlipConfig, BlipDialect, BlipTask, BlipTokens};
use crate::bert::BertJson;
use crate::shapes::Shapes;
use crate::{ConfigError, VitConfig};

/// `eps` of the norms in BLIP's `models/vit.py`; transformers' port has another.
pub const VISION_LAYER_NORM_EPS: f32 = 1e-6;
/// `embed_dim` of every published model.
const EMBED_DIM: usize = 256;

impl BlipConfig {
    /// Reads the sizes off a state dict under our names. Heads are 64 wide, and norms and activation those of the
    /// original program, none of which shapes tell.
    ///
    /// # Errors
    /// A tensor that is not there or has another number of axes, and sizes that make no network.
    pub fn from_state_dict(source: &dyn TensorSource) -> Result<Self, ConfigError> {
        let shapes = Shapes(source);
        let none = || ConfigError::Missing("text_encoder or text_decoder".into());
        let task = BlipTask::of(source).filter(|task| *task != BlipTask::Joint).ok_or_else(none)?;
        let text =
            shapes.bert(if task == BlipTask::Caption { "text_decoder.bert." } else { "text_encoder." })?;
        let answer_decoder =
            if task == BlipTask::Vqa { Some(shapes.bert("text_decoder.bert.")?) } else { None };
        let projection = "vision_proj.weight";
        let projected = if shapes.has(projection) { shapes.matrix(projection)?[0] } else { EMBED_DIM };
        Self {
            task,
            dialect: BlipDialect::Salesforce,
            vision: shapes.vision(VISION_LAYER_NORM_EPS)?,
            answer_decoder,
            image_text_hidden_size: projected,
            temperature: shapes.has("temp"),
            answers: false,
            tokens: BlipTokens::behind(text.vocab_size),
            text,
        }
        .checked()
    }

    /// Sets what `med_config.json` says and shapes do not: heads, activation and `layer_norm_eps` of the texts.
    ///
    /// # Errors
    /// What is no JSON, an unknown activation, and heads that make no network.
    pub fn with_med_config(mut self, json: &str) -> Result<Self, ConfigError> {
        let json: BertJson = serde_json::from_str(json)?;
        json.complete(&mut self.text, self.answer_decoder.as_mut())?;
        self.checked()
    }

    /// Sets what the arguments of the original program's constructor say of the image encoder and shapes do not.
    ///
    /// # Errors
    /// What is no JSON, and heads that make no network.
    pub fn with_arguments(mut self, json: &str) -> Result<Self, ConfigError> {
        set_vision_arguments(&mut self.vision, json)?;
        self.checked()
    }

    /// `med_config.json` of salesforce/BLIP: what it reads of the texts.
    pub fn to_med_config(&self) -> Value {
        let mut json = self.text.to_salesforce_json("BertModel", self.tokens.pad);
        json["add_cross_attention"] = true.into();
        json
    }
}

/// Arguments of the constructor of the image encoder in salesforce/BLIP and ALBEF, which shapes do not tell.
#[derive(Deserialize)]
struct VisionArguments {
    vision_heads: Option<usize>,
    vision_layer_norm_eps: Option<f32>,
}

pub(crate) fn set_vision_arguments(vision: &mut VitConfig, json: &str) -> Result<(), ConfigError> {
    let arguments: VisionArguments = serde_json::from_str(json)?;
    vision.num_attention_heads = arguments.vision_heads.unwrap_or(vision.num_attention_heads);
    vision.layer_norm_eps = arguments.vision_layer_norm_eps.unwrap_or(vision.layer_norm_eps);
    Ok(())
}
