//! transformers' layout.

use serde_json::json;
use tuwen_models::clip::{ClipConfig, VisionConfig};
use tuwen_tensor::checkpoint::{Cast, DType, StoredType, TensorSource};

use super::{Export, Format, Parts, Target, understood};
use crate::Error;

const TARGET: Target = Target::HuggingFace;

/// Configuration, preprocessing and tokenizer in files of their own, weights under the names that are ours.
pub(super) fn export(parts: Parts<'_>, stored: StoredType) -> Result<Export<'_>, Error> {
    if matches!(parts.config.vision, VisionConfig::ResNet(_)) {
        return Err(TARGET.cannot_say("its CLIP has no ResNet image tower; open_clip and openai have"));
    }
    if parts.config.logit_bias_init_value.is_some() {
        return Err(TARGET.cannot_say("its CLIP has no logit_bias; open_clip has"));
    }
    let Some(mut config) = parts.config.to_hf_json() else {
        return Err(TARGET.cannot_say("this network"));
    };
    let weights = Cast::new(Box::new(parts.weights) as Box<dyn TensorSource>, stored);
    config["dtype"] = json!(widest(&weights));
    let config = format!("{config:#}\n");
    let read = ClipConfig::from_hf_json(&config).map_err(|error| TARGET.cannot_say(error.to_string()))?;
    understood(TARGET, parts.config, &read)?;
    let processor = parts.processor.to_hf_json().map_err(|error| TARGET.cannot_say(error.to_string()))?;
    Ok(Export {
        weights,
        format: Format::Safetensors,
        weights_name: "model.safetensors",
        documents: vec![
            ("config.json".to_owned(), config),
            ("preprocessor_config.json".to_owned(), processor),
        ],
        tokenizer: parts.tokenizer,
        classifier: None,
        notes: Vec::new(),
    })
}

/// The type that transformers computes in unless told otherwise: the one in which no weight loses a bit.
pub(super) fn widest(weights: &dyn TensorSource) -> &'static str {
    let dtypes = weights.names().into_iter().filter_map(|name| weights.info(&name)).map(|info| info.dtype);
    let mut floats: Vec<DType> = dtypes.filter(|dtype| dtype.is_float()).collect();
    floats.sort_by_key(|dtype| dtype.name());
    floats.dedup();
    match floats[..] {
        [DType::F16] => "float16",
        [DType::BF16] => "bfloat16",
        _ => "float32",
    }
}
