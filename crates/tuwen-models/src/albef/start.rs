//! An ALBEF that begins as one that was made for another task, as the programs of salesforce/ALBEF fine-tune.
//!
//! References: salesforce/ALBEF `VQA.py` and `Retrieval.py`.

use std::sync::Arc;

use tuwen_nn::Parameters;
use tuwen_tensor::checkpoint::TensorSource;

use super::{AlbefConfig, AlbefTask};
use crate::bert::{BertConfig, CrossAttentionConfig};
use crate::start::{Beginning, Misfit, Rules};

/// Width of the space of contrast in every published model.
const EMBED_DIM: usize = 256;

/// What one task has and another has not.
const NEW: &[&str] = &["temp", "vision_proj.*", "text_proj.*", "itm_head.*", "cls.*", "text_decoder.cls.*"];

impl AlbefConfig {
    /// Sizes of a network for `task` that begins as this one. A decoder of answers has as many layers as the text encoder
    /// has that look at images.
    #[must_use]
    pub fn for_task(self, task: AlbefTask) -> Self {
        if task == self.task {
            return self;
        }
        let answers = task == AlbefTask::Vqa;
        let decoder = BertConfig {
            num_hidden_layers: self.text.num_hidden_layers - self.fusion_layer(),
            cross_attention: Some(CrossAttentionConfig::everywhere(self.text.hidden_size)),
            ..self.text.clone()
        };
        Self {
            task,
            answer_decoder: answers.then_some(decoder),
            embed_dim: (!answers).then_some(self.embed_dim.unwrap_or(EMBED_DIM)),
            temperature: !answers,
            ..self
        }
    }
}

/// Finds the parameters of a network in one for the same or another task, under our names: a decoder of answers begins as
/// the layers of the text encoder from `fusion_layer` on, and with the head of masked tokens.
///
/// # Errors
/// What every network has and this one lacks, or has in another size.
pub fn begin(
    network: &Parameters,
    source: Arc<dyn TensorSource>,
    fusion_layer: usize,
) -> Result<Beginning, Misfit> {
    let origins = |name: &str| origins(name, fusion_layer);
    // A decoder looks at questions, an encoder at images, which may be of another width.
    let resized = &["text_decoder.bert.*.crossattention.self.*"];
    Beginning::new(network, source, &Rules { origins: &origins, new: NEW, resized })
}

fn origins(name: &str, fusion_layer: usize) -> Vec<String> {
    const DECODER: &str = "text_decoder.bert.";
    if let Some(layer) = name.strip_prefix("text_decoder.bert.encoder.layer.") {
        let fused = layer.split_once('.').and_then(|(number, rest)| {
            Some(format!(
                "text_encoder.encoder.layer.{}.{rest}",
                number.parse::<usize>().ok()? + fusion_layer
            ))
        });
        return fused.into_iter().collect();
    }
    if let Some(rest) = name.strip_prefix(DECODER) {
        return vec![format!("text_encoder.{rest}")];
    }
    match (name.strip_prefix("text_decoder.cls."), name.strip_prefix("cls.")) {
        (Some(rest), _) => vec![format!("cls.{rest}")],
        (_, Some(rest)) => vec![format!("text_decoder.cls.{rest}")],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use tuwen_nn::Scope;

    use super::*;
    use crate::albef::{Albef, presets};

    fn config() -> AlbefConfig {
        let mut config = presets::find("albef").expect("published");
        let vision = &mut config.vision;
        (vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers) = (16, 16, 1);
        (vision.num_attention_heads, vision.image_size, vision.patch_size) = (2, 16, 8);
        let text = &mut config.text;
        (text.vocab_size, text.hidden_size, text.intermediate_size) = (30, 16, 12);
        (text.num_hidden_layers, text.num_attention_heads, text.max_position_embeddings) = (3, 2, 8);
        text.cross_attention =
            Some(CrossAttentionConfig { first_layer: 2, ..CrossAttentionConfig::everywhere(16) });
        config
    }

    #[test]
    fn a_decoder_of_answers_begins_as_the_upper_layers() {
        let old = Albef::new(&config(), Scope::init(4)).expect("nothing is loaded");
        let sizes = config().for_task(AlbefTask::Vqa).checked().expect("sizes");
        assert_eq!(sizes.answer_decoder.as_ref().map(|decoder| decoder.num_hidden_layers), Some(1));
        let counted = Albef::new(&sizes, Scope::count()).expect("nothing is loaded");
        let source: Arc<dyn TensorSource> = Arc::new(old.parameters().clone());
        let beginning = begin(counted.parameters(), source, sizes.fusion_layer())
            .unwrap_or_else(|error| panic!("{error}"));
        let words = beginning.in_words();
        assert_eq!(words.len(), 2, "nothing is drawn: {words:?}");
        assert!(
            words[0].contains("text_decoder.bert from text_encoder")
                && words[0].contains("text_decoder.cls from cls")
        );
        assert_eq!(words[1], "left: itm_head (2), temp (1), text_proj (2), vision_proj (2)");
        let new = Albef::new(&sizes, Scope::start_from(Arc::new(beginning), 1)).expect("nothing is missing");
        let value =
            |albef: &Albef, name: &str| albef.parameters().get(name).expect(name).param.value().to_vec();
        for (in_decoder, in_encoder) in [
            (
                "text_decoder.bert.encoder.layer.0.crossattention.self.value.weight",
                "text_encoder.encoder.layer.2.crossattention.self.value.weight",
            ),
            (
                "text_decoder.bert.embeddings.token_type_embeddings.weight",
                "text_encoder.embeddings.token_type_embeddings.weight",
            ),
            ("text_decoder.cls.predictions.transform.dense.weight", "cls.predictions.transform.dense.weight"),
            (
                "text_encoder.encoder.layer.0.attention.self.key.weight",
                "text_encoder.encoder.layer.0.attention.self.key.weight",
            ),
        ] {
            assert_eq!(value(&new, in_decoder), value(&old, in_encoder), "{in_decoder}");
        }
    }
}
