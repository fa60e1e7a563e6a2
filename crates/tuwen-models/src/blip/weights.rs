//! Parameter names of BLIP's programs, and how they become ours.
//!
//! Ours are Hugging Face's, except that queries, keys and values of the image encoder are apart, as everywhere here.
//! Sources: salesforce/BLIP `models/*.py`, LAVIS `models/blip_models/*.py` (whose names are the same), transformers
//! `modeling_blip.py` and `convert_blip_original_pytorch_to_hf.py`.

use tuwen_tensor::checkpoint::{CheckpointError, Mapped, Rule, TensorSource};

use super::BlipTask;

/// The image encoder in transformers' files.
const HUGGING_FACE: &[Rule] = &[
    Rule::ignore("*.position_ids"),
    Rule::split(
        "vision_model.encoder.layers.*.self_attn.qkv.*",
        &[
            "vision_model.encoder.layers.*.self_attn.q_proj.*",
            "vision_model.encoder.layers.*.self_attn.k_proj.*",
            "vision_model.encoder.layers.*.self_attn.v_proj.*",
        ],
    ),
    Rule::rename(
        "vision_model.encoder.layers.*.self_attn.projection.*",
        &["vision_model.encoder.layers.*.self_attn.out_proj.*"],
    ),
];

/// The image encoder in files of salesforce/BLIP, LAVIS and ALBEF: timm's.
pub(crate) const TIMM: &[Rule] = &[
    Rule::ignore("*.position_ids"),
    Rule::rename("visual_encoder.cls_token", &["vision_model.embeddings.class_embedding"]),
    Rule::rename("visual_encoder.pos_embed", &["vision_model.embeddings.position_embedding"]),
    Rule::rename("visual_encoder.patch_embed.proj.*", &["vision_model.embeddings.patch_embedding.*"]),
    Rule::rename("visual_encoder.norm.*", &["vision_model.post_layernorm.*"]),
    Rule::split(
        "visual_encoder.blocks.*.attn.qkv.*",
        &[
            "vision_model.encoder.layers.*.self_attn.q_proj.*",
            "vision_model.encoder.layers.*.self_attn.k_proj.*",
            "vision_model.encoder.layers.*.self_attn.v_proj.*",
        ],
    ),
    Rule::rename(
        "visual_encoder.blocks.*.attn.proj.*",
        &["vision_model.encoder.layers.*.self_attn.out_proj.*"],
    ),
    Rule::rename("visual_encoder.blocks.*.norm1.*", &["vision_model.encoder.layers.*.layer_norm1.*"]),
    Rule::rename("visual_encoder.blocks.*.norm2.*", &["vision_model.encoder.layers.*.layer_norm2.*"]),
    Rule::rename("visual_encoder.blocks.*.mlp.*", &["vision_model.encoder.layers.*.mlp.*"]),
];

/// What only training needs: copies that follow the weights slowly, and queues of what they made.
pub(crate) const TRAINING_STATE: &[Rule] = &[
    Rule::ignore("visual_encoder_m.*"),
    Rule::ignore("text_encoder_m.*"),
    Rule::ignore("text_decoder_m.*"),
    Rule::ignore("vision_proj_m.*"),
    Rule::ignore("text_proj_m.*"),
    Rule::ignore("image_queue"),
    Rule::ignore("text_queue"),
    Rule::ignore("queue_ptr"),
    Rule::ignore("idx_queue"),
    Rule::ignore("ptr_queue"),
];

/// The head of a decoder is tied to its table of tokens.
pub(crate) const TIED_HEAD: &[Rule] = &[
    Rule::alias(
        "text_decoder.cls.predictions.decoder.weight",
        &["text_decoder.bert.embeddings.word_embeddings.weight"],
    ),
    Rule::alias("text_decoder.cls.predictions.decoder.bias", &["text_decoder.cls.predictions.bias"]),
];

/// In pre-training the decoder has everything but self-attention and head of the encoder.
const SHARED_DECODER: &[Rule] = &[
    Rule::rename(
        "text_decoder.bert.encoder.layer.*.attention.*",
        &["text_decoder.bert.encoder.layer.*.attention.*"],
    ),
    Rule::alias(
        "text_decoder.cls.predictions.decoder.weight",
        &["text_encoder.embeddings.word_embeddings.weight"],
    ),
    Rule::alias("text_decoder.cls.predictions.decoder.bias", &["text_decoder.cls.predictions.bias"]),
    Rule::alias("text_decoder.bert.embeddings.*", &["text_encoder.embeddings.*"]),
    Rule::alias(
        "text_decoder.bert.encoder.layer.*.crossattention.*",
        &["text_encoder.encoder.layer.*.crossattention.*"],
    ),
    Rule::alias(
        "text_decoder.bert.encoder.layer.*.intermediate.*",
        &["text_encoder.encoder.layer.*.intermediate.*"],
    ),
    Rule::alias("text_decoder.bert.encoder.layer.*.output.*", &["text_encoder.encoder.layer.*.output.*"]),
];

/// Who named the parameters of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// transformers' BLIP classes.
    HuggingFace,
    /// salesforce/BLIP and LAVIS.
    Salesforce,
}

impl Layout {
    /// The layout of a checkpoint by the names in it; `None` if it is no BLIP. ALBEF's files, whose image encoder has the
    /// same names, have token types.
    pub fn of(source: &dyn TensorSource) -> Option<Self> {
        let names = source.names();
        let has = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
        let text = ["text_encoder.", "text_decoder.bert.", "text_model.encoder.layer."].into_iter().any(has);
        let types = names.iter().any(|name| name.ends_with(".token_type_embeddings.weight"));
        if !text || types {
            None
        } else if has("visual_encoder.") {
            Some(Self::Salesforce)
        } else {
            has("vision_model.embeddings.").then_some(Self::HuggingFace)
        }
    }

    /// A checkpoint of this layout under our names.
    ///
    /// # Errors
    /// Tensors that are tied and differ all the same.
    pub fn import<'s, S: TensorSource + 's>(
        self,
        source: S,
    ) -> Result<Box<dyn TensorSource + 's>, CheckpointError> {
        let names = source.names();
        let has = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
        let pretrain = has("text_decoder.") && has("itm_head.");
        let mapped = Mapped::import(source, &self.tables(pretrain));
        mapped.check_aliases()?;
        Ok(Box::new(mapped))
    }

    /// Parameters under our names as this layout calls them; tied ones under each of their names.
    pub fn export<S: TensorSource>(self, source: S) -> Mapped<S> {
        let pretrain = BlipTask::of(&source) == Some(BlipTask::Pretrain);
        Mapped::export(source, &self.tables(pretrain))
    }

    fn tables(self, pretrain: bool) -> [&'static [Rule]; 3] {
        let decoder = if pretrain { SHARED_DECODER } else { TIED_HEAD };
        match self {
            Self::HuggingFace => [HUGGING_FACE, decoder, &[]],
            Self::Salesforce => [TIMM, decoder, TRAINING_STATE],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tuwen_tensor::checkpoint::RawTensor;

    use super::*;

    fn named(names: &[&str]) -> BTreeMap<String, RawTensor<'static>> {
        let tensor = |&name: &&str| (name.to_owned(), RawTensor::from_f32(&[3, 1], &[1.0, 2.0, 3.0]));
        names.iter().map(tensor).collect()
    }

    #[test]
    fn a_decoder_of_pre_training_is_written_as_a_whole() {
        let ours = named(&[
            "itm_head.weight",
            "vision_model.post_layernorm.weight",
            "text_encoder.embeddings.word_embeddings.weight",
            "text_encoder.encoder.layer.0.attention.output.dense.weight",
            "text_encoder.encoder.layer.0.crossattention.output.dense.weight",
            "text_encoder.encoder.layer.0.output.dense.weight",
            "text_decoder.bert.encoder.layer.0.attention.output.dense.weight",
            "text_decoder.cls.predictions.bias",
        ]);
        let theirs = Layout::Salesforce.export(&ours);
        let decoder: Vec<String> =
            theirs.names().into_iter().filter(|name| name.starts_with("text_decoder.")).collect();
        assert_eq!(
            decoder,
            [
                "text_decoder.bert.embeddings.word_embeddings.weight",
                "text_decoder.bert.encoder.layer.0.attention.output.dense.weight",
                "text_decoder.bert.encoder.layer.0.crossattention.output.dense.weight",
                "text_decoder.bert.encoder.layer.0.output.dense.weight",
                "text_decoder.cls.predictions.bias",
                "text_decoder.cls.predictions.decoder.bias",
                "text_decoder.cls.predictions.decoder.weight",
            ]
        );
        let back = Layout::Salesforce.import(theirs).expect("tied tensors are equal");
        assert_eq!(back.names(), ours.names());
    }

    #[test]
    fn layouts_are_told_by_names() {
        let layout = |names: &[&str]| Layout::of(&named(names));
        let vision = "vision_model.embeddings.class_embedding";
        assert_eq!(layout(&[vision, "text_decoder.bert.x"]), Some(Layout::HuggingFace));
        assert_eq!(layout(&["visual_encoder.cls_token", "text_encoder.x"]), Some(Layout::Salesforce));
        assert_eq!(layout(&[vision, "text_model.encoder.layers.0.x"]), None);
        let albef = "text_encoder.bert.embeddings.token_type_embeddings.weight";
        assert_eq!(layout(&["visual_encoder.cls_token", albef]), None);
    }
}
