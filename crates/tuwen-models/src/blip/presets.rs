//! Published architectures, which need no files.

use tuwen_tensor::Activation;

use super::config::VISION_LAYER_NORM_EPS;
use super::{BlipConfig, BlipDialect, BlipTask, BlipTokens};
use crate::VitConfig;
use crate::bert::{BertConfig, CrossAttentionConfig, CrossImages, LAYER_NORM_EPS};

/// Size of the image encoder; that of the texts is always BERT's base.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    Base,
    Large,
}

/// Name in the hub of transformers or, where it has none, after the file of salesforce/BLIP; size, task and image size.
const PRESETS: [(&str, Size, BlipTask, usize); 13] = [
    ("blip-base", Size::Base, BlipTask::Pretrain, 224),
    ("blip-large", Size::Large, BlipTask::Pretrain, 224),
    ("blip-features-base", Size::Base, BlipTask::Features, 224),
    ("blip-image-captioning-base", Size::Base, BlipTask::Caption, 384),
    ("blip-image-captioning-large", Size::Large, BlipTask::Caption, 384),
    ("blip-itm-base-coco", Size::Base, BlipTask::Retrieval, 384),
    ("blip-itm-base-flickr", Size::Base, BlipTask::Retrieval, 384),
    ("blip-itm-large-coco", Size::Large, BlipTask::Retrieval, 384),
    ("blip-itm-large-flickr", Size::Large, BlipTask::Retrieval, 384),
    ("blip-nlvr-base", Size::Base, BlipTask::Nlvr, 384),
    ("blip-vqa-base", Size::Base, BlipTask::Vqa, 384),
    ("blip-vqa-capfilt-large", Size::Base, BlipTask::Vqa, 384),
    ("blip-vqa-large", Size::Large, BlipTask::Vqa, 480),
];

/// From this layer on, NLVR2's network joins what it saw of two images by a linear layer.
const MERGE_FROM: usize = 6;

/// The names of all published architectures.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, ..)| *name)
}

/// The configuration of a published architecture, perhaps with `salesforce/` before its name; upper and lower case do not
/// matter. Norms are those of the original program.
pub fn find(name: &str) -> Option<BlipConfig> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("salesforce/").unwrap_or(&name);
    let &(_, size, task, image_size) = PRESETS.iter().find(|(known, ..)| *known == name)?;
    Some(config(size, task, image_size))
}

fn config(size: Size, task: BlipTask, image_size: usize) -> BlipConfig {
    let (width, layers) = if size == Size::Base { (768, 12) } else { (1024, 24) };
    let text = bert(width, task);
    BlipConfig {
        task,
        dialect: BlipDialect::Salesforce,
        vision: VitConfig {
            hidden_size: width,
            intermediate_size: 4 * width,
            num_hidden_layers: layers,
            num_attention_heads: width / 64,
            image_size,
            patch_size: 16,
            hidden_act: Activation::Gelu,
            layer_norm_eps: VISION_LAYER_NORM_EPS,
        },
        answer_decoder: (task == BlipTask::Vqa).then(|| bert(text.hidden_size, task)),
        image_text_hidden_size: 256,
        temperature: task == BlipTask::Pretrain,
        answers: false,
        tokens: BlipTokens::behind(text.vocab_size),
        text,
    }
}

fn bert(encoder_width: usize, task: BlipTask) -> BertConfig {
    let two = CrossImages::Two { merge_from: MERGE_FROM };
    let images = if task == BlipTask::Nlvr { two } else { CrossImages::One };
    BertConfig {
        vocab_size: 30524,
        hidden_size: 768,
        intermediate_size: 3072,
        num_hidden_layers: 12,
        num_attention_heads: 12,
        max_position_embeddings: 512,
        type_vocab_size: None,
        hidden_act: Activation::Gelu,
        layer_norm_eps: LAYER_NORM_EPS,
        cross_attention: Some(CrossAttentionConfig {
            images,
            ..CrossAttentionConfig::everywhere(encoder_width)
        }),
    }
}

#[cfg(test)]
mod tests {
    use tuwen_nn::Scope;

    use super::*;
    use crate::blip::Blip;

    #[test]
    fn published_totals_are_exact() {
        for (name, image_size, total) in [
            ("blip-image-captioning-base", 384, 223_971_644),
            ("Salesforce/blip-image-captioning-large", 384, 446_290_492),
            ("blip-itm-base-coco", 384, 223_744_258),
            ("blip-itm-large-flickr", 384, 446_128_642),
            ("blip-vqa-base", 480, 361_478_972),
            ("blip-vqa-large", 480, 583_880_764),
            ("blip-base", 224, 252_441_919),
            ("blip-large", 224, 474_729_023),
            ("blip-features-base", 224, 85_798_656 + 137_258_496),
        ] {
            let mut config = find(name).expect(name);
            config.vision.image_size = image_size;
            let config = config.checked().expect("sizes of a network");
            let blip = Blip::new(&config, Scope::count()).expect("nothing is loaded");
            assert_eq!(blip.parameters().total(), total, "{name}");
        }
        assert!(names().all(|name| find(name).is_some()) && find("blip-huge").is_none());
    }

    #[test]
    fn each_task_has_its_abilities() {
        for name in names() {
            let config = find(name).expect(name);
            let blip = Blip::new(&config, Scope::count()).expect("nothing is loaded");
            let abilities = [
                blip.captioner().is_some(),
                blip.answerer().is_some(),
                blip.encoders().is_some(),
                blip.matcher().is_some(),
                blip.nlvr().is_some(),
                blip.joint().is_some(),
            ];
            let expected = match config.task {
                BlipTask::Caption => [true, false, false, false, false, false],
                BlipTask::Vqa => [false, true, true, false, false, false],
                BlipTask::Retrieval => [false, false, true, true, false, false],
                BlipTask::Features => [false, false, true, false, false, false],
                BlipTask::Nlvr => [false, false, false, false, true, false],
                BlipTask::Pretrain => [true, false, true, true, false, false],
                BlipTask::Joint => [false, false, false, false, false, true],
            };
            assert_eq!(abilities, expected, "{name}");
        }
    }
}
