//! Parameter names of other CLIP programs, and how they become ours.
//!
//! Ours are Hugging Face's. For a ModifiedResNet, which transformers lacks, they are `vision_model.` and what follows
//! `visual.` in OpenAI's files. Sources: openai/CLIP `clip/model.py`, transformers
//! `convert_clip_original_pytorch_to_hf.py`.

use tuwen_tensor::checkpoint::{Mapped, Rule, TensorSource};

/// What is in Hugging Face's files and is no weight.
const HUGGING_FACE: &[Rule] = &[Rule::ignore("*.position_ids")];

/// The image tower where it is a vision transformer.
const VIT: &[Rule] = &[
    Rule::rename("visual.class_embedding", &["vision_model.embeddings.class_embedding"]),
    Rule::rename("visual.conv1.weight", &["vision_model.embeddings.patch_embedding.weight"]),
    Rule::rename("visual.positional_embedding", &["vision_model.embeddings.position_embedding.weight"]),
    Rule::rename("visual.ln_pre.*", &["vision_model.pre_layrnorm.*"]),
    Rule::rename("visual.ln_post.*", &["vision_model.post_layernorm.*"]),
    Rule::transpose("visual.proj", &["visual_projection.weight"]),
    Rule::split(
        "visual.transformer.resblocks.*.attn.in_proj_*",
        &[
            "vision_model.encoder.layers.*.self_attn.q_proj.*",
            "vision_model.encoder.layers.*.self_attn.k_proj.*",
            "vision_model.encoder.layers.*.self_attn.v_proj.*",
        ],
    ),
    Rule::rename(
        "visual.transformer.resblocks.*.attn.out_proj.*",
        &["vision_model.encoder.layers.*.self_attn.out_proj.*"],
    ),
    Rule::rename("visual.transformer.resblocks.*.ln_1.*", &["vision_model.encoder.layers.*.layer_norm1.*"]),
    Rule::rename("visual.transformer.resblocks.*.ln_2.*", &["vision_model.encoder.layers.*.layer_norm2.*"]),
    Rule::rename("visual.transformer.resblocks.*.mlp.c_fc.*", &["vision_model.encoder.layers.*.mlp.fc1.*"]),
    Rule::rename("visual.transformer.resblocks.*.mlp.c_proj.*", &["vision_model.encoder.layers.*.mlp.fc2.*"]),
];

/// The image tower where it is a ModifiedResNet.
const RESNET: &[Rule] =
    &[Rule::ignore("visual.*.num_batches_tracked"), Rule::rename("visual.*", &["vision_model.*"])];

/// The text tower, and what belongs to neither.
const TEXT: &[Rule] = &[
    // Sizes that OpenAI's TorchScript archives keep among the weights.
    Rule::ignore("input_resolution"),
    Rule::ignore("context_length"),
    Rule::ignore("vocab_size"),
    Rule::rename("token_embedding.weight", &["text_model.embeddings.token_embedding.weight"]),
    Rule::rename("positional_embedding", &["text_model.embeddings.position_embedding.weight"]),
    Rule::rename("ln_final.*", &["text_model.final_layer_norm.*"]),
    Rule::transpose("text_projection", &["text_projection.weight"]),
    Rule::split(
        "transformer.resblocks.*.attn.in_proj_*",
        &[
            "text_model.encoder.layers.*.self_attn.q_proj.*",
            "text_model.encoder.layers.*.self_attn.k_proj.*",
            "text_model.encoder.layers.*.self_attn.v_proj.*",
        ],
    ),
    Rule::rename(
        "transformer.resblocks.*.attn.out_proj.*",
        &["text_model.encoder.layers.*.self_attn.out_proj.*"],
    ),
    Rule::rename("transformer.resblocks.*.ln_1.*", &["text_model.encoder.layers.*.layer_norm1.*"]),
    Rule::rename("transformer.resblocks.*.ln_2.*", &["text_model.encoder.layers.*.layer_norm2.*"]),
    Rule::rename("transformer.resblocks.*.mlp.c_fc.*", &["text_model.encoder.layers.*.mlp.fc1.*"]),
    Rule::rename("transformer.resblocks.*.mlp.c_proj.*", &["text_model.encoder.layers.*.mlp.fc2.*"]),
];

/// open_clip's `CustomTextCLIP` keeps the text tower under a prefix; everything else is called the same.
const CUSTOM_TEXT: &[Rule] = &[
    Rule::rename("text.text_projection", &["text_projection"]),
    Rule::rename("text.positional_embedding", &["positional_embedding"]),
    Rule::rename("text.token_embedding.*", &["token_embedding.*"]),
    Rule::rename("text.ln_final.*", &["ln_final.*"]),
    Rule::rename("text.transformer.*", &["transformer.*"]),
];

/// Who named the parameters of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// transformers' `CLIPModel`.
    HuggingFace,
    /// openai/CLIP and open_clip.
    OpenClip,
}

impl Layout {
    /// The layout of a checkpoint by the names in it; `None` if it is no CLIP.
    pub fn of(source: &dyn TensorSource) -> Option<Self> {
        let has = |name: &str| source.info(name).is_some();
        if has("vision_model.embeddings.class_embedding")
            || has("text_model.embeddings.token_embedding.weight")
        {
            Some(Self::HuggingFace)
        } else if has("visual.conv1.weight") || has("visual.class_embedding") {
            Some(Self::OpenClip)
        } else {
            None
        }
    }

    /// A checkpoint of this layout under our names.
    pub fn import<'s, S: TensorSource + 's>(self, source: S) -> Box<dyn TensorSource + 's> {
        match self {
            Self::HuggingFace => Box::new(from_hugging_face(source)),
            Self::OpenClip => Box::new(from_open_clip(source)),
        }
    }
}

/// A checkpoint in Hugging Face's layout without what is no weight.
pub fn from_hugging_face<S: TensorSource>(source: S) -> Mapped<S> {
    Mapped::import(source, &[HUGGING_FACE])
}

/// A checkpoint of openai/CLIP or open_clip under our names.
pub fn from_open_clip<S: TensorSource>(source: S) -> Mapped<Mapped<S>> {
    let resnet = source.names().iter().any(|name| name.starts_with("visual.layer1."));
    Mapped::import(Mapped::import(source, &[CUSTOM_TEXT]), &[if resnet { RESNET } else { VIT }, TEXT])
}

/// Parameters under our names as open_clip's `CustomTextCLIP` calls them, of which SigLIP is one.
pub fn to_custom_text<S: TensorSource>(source: S) -> Mapped<Mapped<S>> {
    Mapped::export(to_open_clip(source), &[CUSTOM_TEXT])
}

/// Parameters under our names as openai/CLIP and open_clip call them.
pub fn to_open_clip<S: TensorSource>(source: S) -> Mapped<S> {
    let resnet = source.names().iter().any(|name| name.starts_with("vision_model.layer1."));
    Mapped::export(source, &[if resnet { RESNET } else { VIT }, TEXT])
}
