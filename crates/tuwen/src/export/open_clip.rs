//! open_clip's layout.

use serde_json::json;
use tuwen_data::tokenizer::ClipTokenizer;
use tuwen_models::clip::{ClipConfig, ClipImageProcessor, weights};
use tuwen_tensor::checkpoint::{Cast, StoredType};

use super::{Export, Format, Parts, Target, ends_at_largest_id, pixels, understood};
use crate::Error;

const TARGET: Target = Target::OpenClip;

/// Configuration and preprocessing in one file, weights under OpenAI's names.
pub(super) fn export(parts: Parts<'_>, stored: StoredType) -> Result<Export<'_>, Error> {
    let Some(mut model) = parts.config.to_open_clip_json() else {
        return Err(TARGET.cannot_say("the towers have different activations (hidden_act)"));
    };
    // With any name here open_clip reads the tokenizer from the files beside; without one it has OpenAI's.
    if parts.tokenizer.is_some_and(|tokenizer| !tokenizer.same_vocabulary(&ClipTokenizer::openai())) {
        model["text_cfg"]["hf_tokenizer_name"] = json!(".");
    }
    let fault = |error: &dyn ToString| TARGET.cannot_say(error.to_string());
    let preparation = parts.processor.to_open_clip_json().map_err(|error| fault(&error))?;
    let image_size = parts.config.vision.image_size();
    let processor = ClipImageProcessor::from_open_clip_json(&preparation, image_size);
    pixels::understood(TARGET, parts.processor, &processor.map_err(|error| fault(&error))?)?;
    let config = format!("{:#}\n", json!({ "model_cfg": model, "preprocess_cfg": preparation }));
    let read = ClipConfig::from_open_clip_json(&config).map_err(|error| fault(&error))?;
    understood(TARGET, parts.config, &read)?;
    ends_at_largest_id(TARGET, parts)?;
    Ok(Export {
        weights: Cast::new(Box::new(weights::to_open_clip(parts.weights)), stored),
        format: Format::Safetensors,
        weights_name: "open_clip_model.safetensors",
        documents: vec![("open_clip_config.json".to_owned(), config)],
        tokenizer: parts.tokenizer,
        classifier: None,
        notes: Vec::new(),
    })
}
