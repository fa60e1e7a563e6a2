//! BLIP and ALBEF at other sizes: a tower of images, texts that look at it, and perhaps a decoder that looks at texts.

use super::tower::{Sizes, half, set};
use super::{Amount, Change, Size, Tower, WhatIfError};
use crate::albef::AlbefConfig;
use crate::bert::{BertConfig, CrossImages};
use crate::blip::{BlipConfig, BlipTask, BlipTokens};
use crate::{ConfigError, VitConfig};

/// The sizes of a model whose texts look at images.
struct Parts<'c> {
    vision: &'c mut VitConfig,
    text: &'c mut BertConfig,
    decoder: Option<&'c mut BertConfig>,
    joint: Option<&'c mut usize>,
}

impl Parts<'_> {
    fn change(self, changes: &[Change]) -> Result<(), WhatIfError> {
        let Self { vision, text, decoder, joint } = self;
        let (seen, before) = (vision.hidden_size, text.clone());
        vision.change(changes)?;
        set(changes, Tower::Text, Size::Vocab, &mut text.vocab_size)?;
        set(changes, Tower::Text, Size::Context, &mut text.max_position_embeddings)?;
        let sizes = Sizes {
            width: &mut text.hidden_size,
            depth: &mut text.num_hidden_layers,
            heads: &mut text.num_attention_heads,
            mlp: &mut text.intermediate_size,
        };
        sizes.change(Tower::Text, changes)?;
        look_at(text, vision.hidden_size, seen, before.num_hidden_layers);
        if let Some(decoder) = decoder {
            let layers = decoder.num_hidden_layers;
            follow(decoder, &before, text);
            look_at(decoder, text.hidden_size, before.hidden_size, layers);
        }
        match joint {
            Some(joint) => set(changes, Tower::Text, Size::Joint, joint),
            None if changes.iter().any(|change| change.size == Size::Joint) => {
                let reason = "this model has no joint space of images and texts";
                Err(WhatIfError::NotHere { key: Size::Joint.to_string(), reason })
            }
            None => Ok(()),
        }
    }
}

/// Cross-attention after a change of what is looked at, and of the number of layers: it begins as far up as before.
fn look_at(bert: &mut BertConfig, seen: usize, seen_before: usize, layers_before: usize) {
    let layers = bert.num_hidden_layers;
    let Some(cross) = &mut bert.cross_attention else { return };
    if cross.encoder_width == seen_before {
        cross.encoder_width = seen;
    }
    cross.first_layer = in_proportion(cross.first_layer, layers_before, layers);
    if let CrossImages::Two { merge_from } = &mut cross.images {
        *merge_from = in_proportion(*merge_from, layers_before, layers);
    }
}

/// The decoder of answers stays to the encoder of questions as it was.
fn follow(decoder: &mut BertConfig, before: &BertConfig, after: &BertConfig) {
    let follow = |size: &mut usize, of: fn(&BertConfig) -> usize| {
        *size = in_proportion(*size, of(before), of(after));
    };
    follow(&mut decoder.vocab_size, |bert| bert.vocab_size);
    follow(&mut decoder.hidden_size, |bert| bert.hidden_size);
    follow(&mut decoder.intermediate_size, |bert| bert.intermediate_size);
    follow(&mut decoder.num_hidden_layers, |bert| bert.num_hidden_layers);
    follow(&mut decoder.num_attention_heads, |bert| bert.num_attention_heads);
    follow(&mut decoder.max_position_embeddings, |bert| bert.max_position_embeddings);
}

fn in_proportion(size: usize, before: usize, after: usize) -> usize {
    (size as f64 * after as f64 / before.max(1) as f64).round() as usize
}

/// What halves a size in both towers, or as nearly as a network can be; `None` for a size of which half says nothing.
fn halving(vision: &VitConfig, text: &BertConfig, size: Size) -> Option<Vec<Change>> {
    let to = |tower, size, value| Change { tower: Some(tower), size, amount: Amount::Exactly(value) };
    Some(match size {
        Size::Width => [
            (Tower::Vision, half(vision.num_attention_heads, vision.hidden_size)),
            (Tower::Text, half(text.num_attention_heads, text.hidden_size)),
        ]
        .into_iter()
        .flat_map(|(tower, (heads, width))| [to(tower, Size::Heads, heads), to(tower, Size::Width, width)])
        .collect(),
        Size::Depth => vec![
            to(Tower::Vision, size, vision.num_hidden_layers.div_ceil(2)),
            to(Tower::Text, size, text.num_hidden_layers.div_ceil(2)),
        ],
        Size::Image => {
            let patches = (vision.image_size / 2 / vision.patch_size).max(1);
            vec![to(Tower::Vision, size, patches * vision.patch_size)]
        }
        Size::Vocab => vec![to(Tower::Text, size, text.vocab_size.div_ceil(2))],
        Size::Context => vec![to(Tower::Text, size, text.max_position_embeddings.div_ceil(2))],
        _ => return None,
    })
}

/// What can be changed and what follows from it, with the present values.
fn sizes(
    vision: &VitConfig,
    text: &BertConfig,
    decoder: Option<&BertConfig>,
    joint: Option<usize>,
) -> Vec<(String, String)> {
    let mut sizes = vision.sizes().to_vec();
    sizes.extend([
        ("image", vision.image_size),
        ("text.width", text.hidden_size),
        ("text.depth", text.num_hidden_layers),
        ("text.heads", text.num_attention_heads),
        ("text.mlp", text.intermediate_size),
        ("vocab", text.vocab_size),
        ("context", text.max_position_embeddings),
    ]);
    let fusion = text.cross_attention.map(|cross| cross.first_layer).filter(|&layer| layer > 0);
    sizes.extend(fusion.map(|layer| ("fusion layer", layer)));
    sizes.extend(decoder.map(|decoder| ("decoder's depth", decoder.num_hidden_layers)));
    sizes.extend(joint.map(|joint| ("joint", joint)));
    sizes.into_iter().map(|(name, size)| (name.to_owned(), size.to_string())).collect()
}

impl BlipConfig {
    /// This model with some sizes changed; heads keep their width where the width of the tower allows it, MLPs their ratio, and
    /// a decoder of answers what it has in common with the encoder of questions.
    ///
    /// # Errors
    /// Sizes that make no network, in one line.
    pub fn changed(&self, changes: &[Change]) -> Result<Self, WhatIfError> {
        let mut config = self.clone();
        let joint = self.joint().is_some().then_some(&mut config.image_text_hidden_size);
        let (vision, text, decoder) = (&mut config.vision, &mut config.text, config.answer_decoder.as_mut());
        Parts { vision, text, decoder, joint }.change(changes)?;
        if config.text.vocab_size != self.text.vocab_size {
            config.tokens = BlipTokens::behind(config.text.vocab_size);
        }
        Ok(config.checked()?)
    }

    /// This model with one size halved, or as near to that as a network can be; `None` where it can be no smaller.
    pub fn halved(&self, size: Size) -> Option<Self> {
        let changes = halving(&self.vision, &self.text, size)?;
        self.changed(&changes).ok().filter(|halved| halved.sizes() != self.sizes())
    }

    /// What can be changed, under the names of [`Change`], and what follows from it, with the present values.
    pub fn sizes(&self) -> Vec<(String, String)> {
        sizes(&self.vision, &self.text, self.answer_decoder.as_ref(), self.joint())
    }

    /// Width of the joint space, where there is one.
    fn joint(&self) -> Option<usize> {
        let compares = matches!(self.task, BlipTask::Retrieval | BlipTask::Pretrain | BlipTask::Joint);
        compares.then_some(self.image_text_hidden_size)
    }
}

impl AlbefConfig {
    /// This model with some sizes changed; heads keep their width where the width of the tower allows it, MLPs their ratio, the
    /// layers that look at images their share, and a decoder of answers what it has in common with the encoder of questions.
    ///
    /// # Errors
    /// Sizes that make no network, in one line.
    pub fn changed(&self, changes: &[Change]) -> Result<Self, WhatIfError> {
        let mut config = self.clone();
        let (vision, text, decoder) = (&mut config.vision, &mut config.text, config.answer_decoder.as_mut());
        Parts { vision, text, decoder, joint: config.embed_dim.as_mut() }.change(changes)?;
        let (fusion, layers) = (config.fusion_layer(), config.text.num_hidden_layers);
        if fusion >= layers {
            let problem = format!("text.depth is {layers}, of which no layer would look at images");
            return Err(ConfigError::Sizes(problem).into());
        }
        Ok(config.checked()?)
    }

    /// This model with one size halved, or as near to that as a network can be; `None` where it can be no smaller.
    pub fn halved(&self, size: Size) -> Option<Self> {
        let changes = halving(&self.vision, &self.text, size)?;
        self.changed(&changes).ok().filter(|halved| halved != self)
    }

    /// What can be changed, under the names of [`Change`], and what follows from it, with the present values.
    pub fn sizes(&self) -> Vec<(String, String)> {
        sizes(&self.vision, &self.text, self.answer_decoder.as_ref(), self.embed_dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{albef, blip};

    fn changes(changes: &str) -> Vec<Change> {
        changes.split(',').map(|change| change.parse().expect(change)).collect()
    }

    fn blip(name: &str, sizes: &str) -> Result<BlipConfig, String> {
        let config = blip::presets::find(name).expect(name);
        config.changed(&changes(sizes)).map_err(|error| error.to_string())
    }

    #[test]
    fn texts_follow_the_images_that_they_look_at() {
        let config =
            blip("blip-image-captioning-base", "vision.width=1024,text.width=0.5,image=480,vocab=1000");
        let config = config.expect("a network");
        let text = &config.text;
        assert_eq!((config.vision.num_attention_heads, config.vision.intermediate_size), (16, 4096));
        assert_eq!((text.hidden_size, text.num_attention_heads, text.intermediate_size), (384, 6, 1536));
        assert_eq!(text.cross_attention.map(|cross| cross.encoder_width), Some(1024));
        assert_eq!((config.tokens.dec, config.tokens.enc, config.vision.grid()), (998, 999, 30));
        config.cost().expect("a network");
    }

    #[test]
    fn the_decoder_of_answers_follows_the_encoder_of_questions() {
        let config = blip("blip-vqa-base", "text.depth=6,text.width=x2,context=64").expect("a network");
        let decoder = config.answer_decoder.as_ref().expect("it answers");
        assert_eq!((decoder.num_hidden_layers, decoder.max_position_embeddings), (6, 64));
        assert_eq!(decoder.cross_attention.map(|cross| cross.encoder_width), Some(1536));
        assert_eq!(config.text.cross_attention.map(|cross| cross.encoder_width), Some(768));
        config.cost().expect("a network");
        let config = albef::presets::find("albef-vqa").expect("published");
        let config = config.changed(&changes("text.depth=0.5")).expect("a network");
        let decoder = config.answer_decoder.as_ref().expect("it answers");
        assert_eq!((config.fusion_layer(), decoder.num_hidden_layers), (3, 3));
        config.cost().expect("a network");
    }

    #[test]
    fn impossible_sizes_are_one_line() {
        for (name, sizes, expected) in [
            ("blip-itm-base-coco", "width=0.3", "vision.width: 768 x 0.3 is 230.39"),
            ("blip-itm-base-coco", "image=380", "image 380 is no multiple of patch 16"),
            ("blip-itm-base-coco", "text.heads=7", "does not make 7 heads"),
            ("blip-vqa-base", "joint=64", "joint: this model has no joint space"),
            ("blip-nlvr-base", "depth=100000", "expected at most 4096"),
        ] {
            let message = blip(name, sizes).expect_err(sizes);
            assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        }
        let albef = albef::presets::find("albef").expect("published");
        let message = albef.changed(&changes("text.depth=1")).expect_err("no fusion").to_string();
        assert!(message.contains("no layer would look at images"), "{message}");
    }

    #[test]
    fn every_published_model_can_be_halved() {
        let sizes = [Size::Width, Size::Depth, Size::Image, Size::Vocab, Size::Context];
        for (name, size) in blip::presets::names().flat_map(|name| sizes.map(|size| (name, size))) {
            let halved = blip::presets::find(name)
                .expect(name)
                .halved(size)
                .unwrap_or_else(|| panic!("{name}: {size}"));
            halved.checked().expect("sizes of a network");
        }
        for (name, size) in albef::presets::names().flat_map(|name| sizes.map(|size| (name, size))) {
            let halved = albef::presets::find(name)
                .expect(name)
                .halved(size)
                .unwrap_or_else(|| panic!("{name}: {size}"));
            halved.checked().expect("sizes of a network");
        }
    }
}
