//! Sizes of an ALBEF model, from the shapes of a state dict and `config_bert.json`.

use serde_json::Value;
use tuwen_tensor::checkpoint::TensorSource;

use crate::bert::{BertConfig, BertJson};
use crate::blip::config::{VISION_LAYER_NORM_EPS, set_vision_arguments};
use crate::shapes::Shapes;
use crate::{ConfigError, VitConfig, sizes};

/// What a checkpoint was made for, which decides its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlbefTask {
    /// Contrast, matching and masked tokens.
    Pretrain,
    /// Contrast and matching.
    Retrieval,
    /// Answers that a decoder writes.
    Vqa,
}

/// Sizes of an ALBEF model and what else its weights do not tell.
#[derive(Clone, Debug, PartialEq)]
pub struct AlbefConfig {
    /// What it was made for.
    pub task: AlbefTask,
    /// The image encoder.
    pub vision: VitConfig,
    /// The text encoder, whose cross-attention begins at the fusion layer.
    pub text: BertConfig,
    /// The decoder of answers, which looks at the states of questions.
    pub answer_decoder: Option<BertConfig>,
    /// Width of the space in which images and texts are compared, in a network that does so.
    pub embed_dim: Option<usize>,
    /// Whether the temperature of the contrast is kept.
    pub temperature: bool,
}

impl AlbefConfig {
    /// Reads the sizes off a state dict under our names. Heads are 64 wide, and norms and activation those of the
    /// original program, none of which shapes tell.
    ///
    /// # Errors
    /// A tensor that is not there or has another number of axes, and sizes that make no network.
    pub fn from_state_dict(source: &dyn TensorSource) -> Result<Self, ConfigError> {
        let shapes = Shapes(source);
        let answers = shapes.has("text_decoder.cls.predictions.bias");
        let answer_decoder = if answers { Some(shapes.bert("text_decoder.bert.")?) } else { None };
        let embed_dim = if answers { None } else { Some(shapes.matrix("vision_proj.weight")?[0]) };
        let task = match answer_decoder {
            Some(_) => AlbefTask::Vqa,
            None if shapes.has("cls.predictions.bias") => AlbefTask::Pretrain,
            None => AlbefTask::Retrieval,
        };
        Self {
            task,
            vision: shapes.vision(VISION_LAYER_NORM_EPS)?,
            text: shapes.bert("text_encoder.")?,
            answer_decoder,
            embed_dim,
            temperature: shapes.has("temp"),
        }
        .checked()
    }

    /// Sets what `config_bert.json` says and shapes do not: heads, activation and `layer_norm_eps` of the texts.
    ///
    /// # Errors
    /// What is no JSON, an unknown activation, heads that make no network, and another `fusion_layer` than the weights have.
    pub fn with_bert_config(mut self, json: &str) -> Result<Self, ConfigError> {
        let json: BertJson = serde_json::from_str(json)?;
        if let Some(fusion_layer) = json.fusion_layer.filter(|&layer| layer != self.fusion_layer()) {
            let expected = format!("the weights look at images from layer {} on", self.fusion_layer());
            return Err(ConfigError::unsupported("fusion_layer", fusion_layer, &expected));
        }
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

    /// `config_bert.json` of salesforce/ALBEF: what it reads of the texts.
    pub fn to_bert_config(&self) -> Value {
        let mut json = self.text.to_salesforce_json("BertForMaskedLM", 0);
        json["fusion_layer"] = self.fusion_layer().into();
        json
    }

    /// The first layer of the text encoder that looks at images.
    pub fn fusion_layer(&self) -> usize {
        self.text.cross_attention.map_or(self.text.num_hidden_layers, |cross| cross.first_layer)
    }

    /// Checks that the sizes make a network.
    ///
    /// # Errors
    /// The first size that is zero, absurd, or no multiple of what it has to be.
    pub fn checked(self) -> Result<Self, ConfigError> {
        self.vision.check()?;
        self.text.check("text")?;
        if let Some(decoder) = &self.answer_decoder {
            decoder.check("text decoder")?;
        }
        sizes::in_range(&[("embed_dim", self.embed_dim.unwrap_or(1))])?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use tuwen_nn::Scope;
    use tuwen_tensor::Activation;

    use super::*;
    use crate::albef::weights::{from_salesforce, to_salesforce};
    use crate::albef::{Albef, AlbefConfig};
    use crate::bert::{CrossAttentionConfig, LAYER_NORM_EPS};

    fn bert(layers: usize, cross: CrossAttentionConfig) -> BertConfig {
        BertConfig {
            vocab_size: 40,
            hidden_size: 64,
            intermediate_size: 24,
            num_hidden_layers: layers,
            num_attention_heads: 1,
            max_position_embeddings: 12,
            type_vocab_size: Some(2),
            hidden_act: Activation::Gelu,
            layer_norm_eps: LAYER_NORM_EPS,
            cross_attention: Some(cross),
        }
    }

    /// A network for questions, which no golden case has.
    fn answers() -> AlbefConfig {
        let fused = CrossAttentionConfig { first_layer: 2, ..CrossAttentionConfig::everywhere(128) };
        AlbefConfig {
            task: AlbefTask::Vqa,
            vision: VitConfig {
                hidden_size: 128,
                intermediate_size: 40,
                num_hidden_layers: 1,
                num_attention_heads: 2,
                image_size: 16,
                patch_size: 8,
                hidden_act: Activation::Gelu,
                layer_norm_eps: VISION_LAYER_NORM_EPS,
            },
            text: bert(4, fused),
            answer_decoder: Some(bert(2, CrossAttentionConfig::everywhere(64))),
            embed_dim: None,
            temperature: false,
        }
    }

    #[test]
    fn a_network_for_questions_is_read_back_from_its_names_and_shapes() {
        let config = answers();
        let albef = Albef::new(&config, Scope::init(2)).expect("nothing is loaded");
        assert!(albef.text_decoder().is_some() && albef.contrast().is_none());
        let theirs = to_salesforce(albef.parameters());
        assert!(theirs.info("text_decoder.cls.predictions.decoder.weight").is_some());
        let ours = from_salesforce(theirs).expect("tied tensors are equal");
        assert_eq!(ours.names(), {
            let mut names = albef.parameters().names();
            names.sort();
            names
        });
        assert_eq!(AlbefConfig::from_state_dict(&ours).expect("sizes"), config);
        let error = config.with_bert_config(r#"{"fusion_layer": 6}"#).expect_err("another").to_string();
        assert!(error.contains("fusion_layer is 6; the weights look at images from layer 2 on"), "{error}");
    }
}
