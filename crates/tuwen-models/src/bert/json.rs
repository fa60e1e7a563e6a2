//! The fields of a BERT's configuration in JSON, which the programs call alike.

use serde::Deserialize;
use tuwen_tensor::Activation;

use super::BertConfig;
use crate::ConfigError;
use crate::clip::config::activation;

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
