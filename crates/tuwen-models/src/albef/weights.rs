//! Parameter names of ALBEF's programs, and how they become ours: those of BLIP, with `cls` for masked tokens.
//!
//! Sources: salesforce/ALBEF `models/*.py`; LAVIS `models/albef_models/*.py`, whose names are the same.

use tuwen_tensor::checkpoint::{CheckpointError, Mapped, Rule, TensorSource};

use crate::blip::weights::{TIED_HEAD, TIMM, TRAINING_STATE};

/// Where the text encoder predicts masked tokens, it is a part of what does.
const MASKED_TOKENS: &[Rule] = &[
    Rule::alias(
        "text_encoder.cls.predictions.decoder.weight",
        &["text_encoder.embeddings.word_embeddings.weight"],
    ),
    Rule::alias("text_encoder.cls.predictions.decoder.bias", &["cls.predictions.bias"]),
    Rule::rename("text_encoder.bert.*", &["text_encoder.*"]),
    Rule::rename("text_encoder.cls.*", &["cls.*"]),
];

/// Whether a checkpoint, under the names of the original program, is one of ALBEF's: its texts have token types.
pub fn is_albef(source: &dyn TensorSource) -> bool {
    let types = |name: &String| {
        name.starts_with("text_encoder.") && name.ends_with("embeddings.token_type_embeddings.weight")
    };
    source.info("visual_encoder.cls_token").is_some() && source.names().iter().any(types)
}

/// A checkpoint of salesforce/ALBEF or LAVIS under our names.
///
/// # Errors
/// Tensors that are tied and differ all the same.
pub fn from_salesforce<'s, S: TensorSource + 's>(
    source: S,
) -> Result<Box<dyn TensorSource + 's>, CheckpointError> {
    let mapped = Mapped::import(source, &[TIMM, MASKED_TOKENS, TIED_HEAD, TRAINING_STATE]);
    mapped.check_aliases()?;
    Ok(Box::new(mapped))
}

/// Parameters under our names as salesforce/ALBEF calls them; tied ones under each of their names.
pub fn to_salesforce<S: TensorSource>(source: S) -> Mapped<S> {
    let masked: &[Rule] = if source.info("cls.predictions.bias").is_some() { MASKED_TOKENS } else { &[] };
    Mapped::export(source, &[TIMM, masked, TIED_HEAD])
}
