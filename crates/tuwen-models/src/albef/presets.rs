//! Published architectures, which need no files (salesforce/ALBEF `configs/*.yaml`).

use tuwen_tensor::Activation;

use super::{AlbefConfig, AlbefTask};
use crate::VitConfig;
use crate::bert::{BertConfig, CrossAttentionConfig, LAYER_NORM_EPS};
use crate::blip::config::VISION_LAYER_NORM_EPS;

/// Name after the published file, task and image size.
const PRESETS: [(&str, AlbefTask, usize); 5] = [
    ("albef", AlbefTask::Pretrain, 256),
    ("albef-4m", AlbefTask::Pretrain, 256),
    ("albef-mscoco", AlbefTask::Retrieval, 384),
    ("albef-flickr30k", AlbefTask::Retrieval, 384),
    ("albef-vqa", AlbefTask::Vqa, 384),
];

/// The first layer that looks at images.
const FUSION_LAYER: usize = 6;

/// The names of all published architectures.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, ..)| *name)
}

/// The configuration of a published architecture, perhaps with `salesforce/` before its name; upper and lower case do not
/// matter.
pub fn find(name: &str) -> Option<AlbefConfig> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("salesforce/").unwrap_or(&name);
    let &(_, task, image_size) = PRESETS.iter().find(|(known, ..)| *known == name)?;
    let width = 768;
    let fused = CrossAttentionConfig { first_layer: FUSION_LAYER, ..CrossAttentionConfig::everywhere(width) };
    let answers = task == AlbefTask::Vqa;
    Some(AlbefConfig {
        task,
        vision: VitConfig {
            hidden_size: width,
            intermediate_size: 4 * width,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size,
            patch_size: 16,
            hidden_act: Activation::Gelu,
            layer_norm_eps: VISION_LAYER_NORM_EPS,
        },
        text: bert(12, fused),
        answer_decoder: answers.then(|| bert(6, CrossAttentionConfig::everywhere(width))),
        embed_dim: (!answers).then_some(256),
        temperature: !answers,
    })
}

fn bert(layers: usize, cross_attention: CrossAttentionConfig) -> BertConfig {
    BertConfig {
        vocab_size: 30522,
        hidden_size: 768,
        intermediate_size: 3072,
        num_hidden_layers: layers,
        num_attention_heads: 12,
        max_position_embeddings: 512,
        type_vocab_size: Some(2),
        hidden_act: Activation::Gelu,
        layer_norm_eps: LAYER_NORM_EPS,
        cross_attention: Some(cross_attention),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paper (arXiv 2107.07651, section 3.1): BERT-base with 123.7 million parameters and ViT-B/16 with 85.8 million.
    #[test]
    fn the_parts_are_as_large_as_published() {
        let cost = find("salesforce/ALBEF").expect("published").cost().expect("sizes of a network");
        let millions = |prefixes: &[&str]| {
            let of = |(name, _): &&(String, usize)| prefixes.iter().any(|prefix| name.starts_with(prefix));
            let count: usize = cost.parameters.iter().filter(of).map(|(_, count)| count).sum();
            (count as f64 / 1e5).round() / 10.0
        };
        assert_eq!((millions(&["text_encoder.", "cls."]), millions(&["vision_model."])), (123.7, 85.8));
    }

    #[test]
    fn every_task_can_be_measured() {
        for name in names() {
            let config = find(name).and_then(|config| config.checked().ok()).expect(name);
            let cost = config.cost().expect("sizes of a network");
            assert!(cost.text.inference.flops > 1_000_000_000 && cost.image.training.held > 0, "{name}");
        }
        assert!(find("albef-large").is_none());
    }
}
