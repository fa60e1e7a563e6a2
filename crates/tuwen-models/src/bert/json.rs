//! The fields of a BERT's configuration in JSON, which the programs call alike.

use serde::Deserialize;
use serde_json::{Value, json};
use tuwen_tensor::Activation;

use super::BertConfig;
use crate::ConfigError;
use crate::clip::config::{activation, activation_name};

/// What `med_config.json` (BLIP), `config_bert.json` (ALBEF) and the `text_config` of transformers say; a field that is
/// left out is `None`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct BertJson {
    pub vocab_size: Option<usize>,
    pub hidden_size: Option<usize>,
    pub intermediate_size: Option<usize>,
    pub num_hidden_layers: Option<usize>,
    pub num_attention_heads: Option<usize>,
    pub max_position_embeddings: Option<usize>,
    pub hidden_act: Option<String>,
    pub layer_norm_eps: Option<f32>,
    pub fusion_layer: Option<usize>,
    pub bos_token_id: Option<u32>,
    pub sep_token_id: Option<u32>,
    pub pad_token_id: Option<u32>,
}

impl BertJson {
    /// The activation, if it is named.
    pub(crate) fn activation(&self, field: &str) -> Result<Option<Activation>, ConfigError> {
        self.hidden_act.as_deref().map(|name| activation(field, name)).transpose()
    }

    /// Sets what shapes do not tell of the texts and of what decodes answers: heads, activation and `layer_norm_eps`.
    ///
    /// # Errors
    /// An unknown activation.
    pub(crate) fn complete(
        &self,
        text: &mut BertConfig,
        answer_decoder: Option<&mut BertConfig>,
    ) -> Result<(), ConfigError> {
        let activation = self.activation("hidden_act")?;
        for config in [text].into_iter().chain(answer_decoder) {
            config.num_attention_heads = self.num_attention_heads.unwrap_or(config.num_attention_heads);
            config.layer_norm_eps = self.layer_norm_eps.unwrap_or(config.layer_norm_eps);
            config.hidden_act = activation.unwrap_or(config.hidden_act);
        }
        Ok(())
    }
}

impl BertConfig {
    /// What salesforce/BLIP reads of the texts in `med_config.json`, and salesforce/ALBEF in `config_bert.json`, but for what
    /// only one of them says.
    pub(crate) fn to_salesforce_json(&self, architecture: &str, pad_token_id: u32) -> Value {
        json!({
            "architectures": [architecture],
            "model_type": "bert",
            "attention_probs_dropout_prob": 0.1,
            "hidden_dropout_prob": 0.1,
            "initializer_range": 0.02,
            "hidden_act": activation_name(self.hidden_act),
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "layer_norm_eps": self.layer_norm_eps,
            "max_position_embeddings": self.max_position_embeddings,
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "pad_token_id": pad_token_id,
            "type_vocab_size": self.type_vocab_size.unwrap_or(2),
            "vocab_size": self.vocab_size,
            "encoder_width": self.cross_attention.map_or(self.hidden_size, |cross| cross.encoder_width),
        })
    }
}
