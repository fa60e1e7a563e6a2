//! A BLIP that begins as one that was made for another task, as the programs of salesforce/BLIP fine-tune.
//!
//! References: salesforce/BLIP `models/blip.py` and `models/blip_nlvr.py` (`load_checkpoint`).

use std::sync::Arc;

use tuwen_nn::Parameters;
use tuwen_tensor::checkpoint::TensorSource;

use super::{BlipConfig, BlipTask};
use crate::bert::{BertConfig, CrossAttentionConfig, CrossImages};
use crate::start::{Beginning, Misfit, Rules};

/// What one task has and another has not.
const NEW: &[&str] = &[
    "temp",
    "vision_proj.*",
    "text_proj.*",
    "itm_head.*",
    "cls_head.*",
    "text_decoder.cls.*",
    "text_encoder.*.merge_layer.*",
];

/// A decoder of answers looks at questions, one of captions at images, which may be of another width.
const RESIZED: &[&str] = &["text_decoder.bert.*.crossattention.self.*"];

impl BlipConfig {
    /// Sizes of a network for `task` that begins as this one. What compares gets a temperature.
    #[must_use]
    pub fn for_task(self, task: BlipTask) -> Self {
        if task == self.task {
            return self;
        }
        let seen = |encoder_width, images| {
            Some(CrossAttentionConfig { images, ..CrossAttentionConfig::everywhere(encoder_width) })
        };
        // From the middle on, as the published one of twelve layers does.
        let merge_from = self.text.num_hidden_layers / 2;
        let images = if task == BlipTask::Nlvr { CrossImages::Two { merge_from } } else { CrossImages::One };
        let text = BertConfig { cross_attention: seen(self.vision.hidden_size, images), ..self.text };
        let answers =
            BertConfig { cross_attention: seen(text.hidden_size, CrossImages::One), ..text.clone() };
        Self {
            task,
            answer_decoder: (task == BlipTask::Vqa).then_some(answers),
            temperature: matches!(task, BlipTask::Pretrain | BlipTask::Retrieval),
            answers: false,
            text,
            ..self
        }
    }
}

/// Finds the parameters of a network in one for the same or another task, under our names: a decoder that is not there
/// begins as the text encoder and the other way round, and both attentions to two images begin as that to one.
///
/// # Errors
/// What every network has and this one lacks, or has in another size.
pub fn begin(network: &Parameters, source: Arc<dyn TensorSource>) -> Result<Beginning, Misfit> {
    Beginning::new(network, source, &Rules { origins: &origins, new: NEW, resized: RESIZED })
}

fn origins(name: &str) -> Vec<String> {
    const TEXTS: [&str; 3] = ["text_encoder.", "text_decoder.bert.", "text_model."];
    let one = one_attention(name);
    let rest = TEXTS.iter().find_map(|text| one.strip_prefix(text));
    let others = rest.into_iter().flat_map(|rest| TEXTS.map(|text| format!("{text}{rest}")));
    [one.clone()].into_iter().chain(others).collect()
}

/// The name in a layer that looks at one image of what looks at the first or second of two.
fn one_attention(name: &str) -> String {
    let [attention, output] = [".crossattention.self", ".crossattention.output.dense"];
    [attention, output]
        .into_iter()
        .find_map(|part| {
            let (before, after) = name.split_once(part)?;
            let after = after.strip_prefix('0').or_else(|| after.strip_prefix('1'))?;
            Some(format!("{before}{part}{after}"))
        })
        .unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use tuwen_nn::{Init, Scope};
    use tuwen_tensor::Activation;

    use super::*;
    use crate::blip::{Blip, presets};

    /// Two layers each, images wider than texts.
    fn config(task: BlipTask) -> BlipConfig {
        let mut config = presets::find("blip-base").expect("published");
        let vision = &mut config.vision;
        (vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers) = (24, 16, 2);
        (vision.num_attention_heads, vision.image_size, vision.patch_size) = (2, 16, 8);
        vision.hidden_act = Activation::Gelu;
        let text = &mut config.text;
        (text.vocab_size, text.hidden_size, text.intermediate_size) = (30, 16, 12);
        (text.num_hidden_layers, text.num_attention_heads, text.max_position_embeddings) = (2, 2, 8);
        text.cross_attention = Some(CrossAttentionConfig::everywhere(24));
        config.image_text_hidden_size = 8;
        config.for_task(task)
    }

    fn network(config: &BlipConfig, scope: Scope) -> Blip {
        Blip::new(config, scope).expect("nothing is missing")
    }

    fn value(blip: &Blip, name: &str) -> Vec<f32> {
        blip.parameters().get(name).unwrap_or_else(|| panic!("{name}")).param.value().to_vec()
    }

    /// A network for `to` that begins as one for `from`, both, and what is said.
    fn started(from: BlipTask, to: BlipTask) -> (Blip, Blip, Vec<String>) {
        let old = network(&config(from), Scope::init(7));
        let sizes = config(from).for_task(to).checked().expect("sizes");
        let counted = network(&sizes, Scope::count());
        let source: Arc<dyn TensorSource> = Arc::new(old.parameters().clone());
        let beginning = begin(counted.parameters(), source).unwrap_or_else(|error| panic!("{error}"));
        let words = beginning.in_words();
        (network(&sizes, Scope::start_from(Arc::new(beginning), 9)), old, words)
    }

    #[test]
    fn every_task_begins_as_pre_training_ended() {
        const LAYER: &str = "encoder.layer.1";
        for (to, new, old) in [
            (
                BlipTask::Caption,
                "text_decoder.bert.{}.attention.self.key.weight",
                "text_decoder.bert.{}.attention.self.key.weight",
            ),
            (
                BlipTask::Caption,
                "text_decoder.bert.{}.output.dense.weight",
                "text_encoder.{}.output.dense.weight",
            ),
            (
                BlipTask::Vqa,
                "text_decoder.bert.{}.attention.self.key.weight",
                "text_decoder.bert.{}.attention.self.key.weight",
            ),
            (
                BlipTask::Vqa,
                "text_decoder.bert.{}.crossattention.self.query.weight",
                "text_encoder.{}.crossattention.self.query.weight",
            ),
            (
                BlipTask::Vqa,
                "text_decoder.cls.predictions.transform.dense.weight",
                "text_decoder.cls.predictions.transform.dense.weight",
            ),
            (BlipTask::Retrieval, "itm_head.weight", "itm_head.weight"),
            (
                BlipTask::Nlvr,
                "text_encoder.{}.crossattention.self0.value.weight",
                "text_encoder.{}.crossattention.self.value.weight",
            ),
            (
                BlipTask::Nlvr,
                "text_encoder.{}.crossattention.self1.value.weight",
                "text_encoder.{}.crossattention.self.value.weight",
            ),
            (
                BlipTask::Nlvr,
                "text_encoder.{}.crossattention.output.dense1.bias",
                "text_encoder.{}.crossattention.output.dense.bias",
            ),
            (
                BlipTask::Nlvr,
                "vision_model.encoder.layers.1.mlp.fc1.weight",
                "vision_model.encoder.layers.1.mlp.fc1.weight",
            ),
        ] {
            let (begun, pretrained, _) = started(BlipTask::Pretrain, to);
            let [new, old] = [new, old].map(|name| name.replace("{}", LAYER));
            assert_eq!(value(&begun, &new), value(&pretrained, &old), "{to:?}: {new}");
        }
    }

    #[test]
    fn what_is_new_is_drawn_and_said() {
        let (_, _, words) = started(BlipTask::Pretrain, BlipTask::Nlvr);
        assert_eq!(
            words[1],
            "drawn anew: cls_head.* (4), text_encoder.encoder.layer.*.crossattention.output.merge_layer (2)"
        );
        assert!(words[2].starts_with("left: itm_head (2), temp (1), text_decoder.bert ("), "{}", words[2]);
        // The decoder of answers looks at questions, which are narrower than images here.
        let (_, _, words) = started(BlipTask::Pretrain, BlipTask::Vqa);
        assert!(
            words[1].contains("text_decoder.bert.encoder.layer.*.crossattention.self.key (2)"),
            "{}",
            words[1]
        );
        let (begun, captioner, words) = started(BlipTask::Caption, BlipTask::Retrieval);
        let [encoder, decoder] = ["text_encoder", "text_decoder.bert"]
            .map(|bert| format!("{bert}.encoder.layer.0.attention.self.query.weight"));
        assert_eq!(value(&begun, &encoder), value(&captioner, &decoder));
        assert_eq!(words[1], "drawn anew: itm_head (2), temp (1), text_proj (2), vision_proj (2)");
    }

    #[test]
    fn a_network_without_what_all_have_is_refused() {
        let sizes = config(BlipTask::Pretrain).for_task(BlipTask::Caption);
        let counted = network(&sizes, Scope::count());
        let scope = Scope::init(1);
        scope.param("vision_model.post_layernorm.weight", &[7], Init::ONES);
        let source: Arc<dyn TensorSource> = Arc::new(scope.finish().expect("nothing is loaded"));
        let error = begin(counted.parameters(), source).err().expect("refused").to_string();
        assert!(
            error.starts_with("it lacks vision_model.embeddings.class_embedding, ") && !error.contains('\n')
        );
        assert!(
            error.ends_with("its vision_model.post_layernorm.weight is [7] where [24] is needed"),
            "{error}"
        );
    }
}
