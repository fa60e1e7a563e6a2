//! openai/CLIP's layout: weights and nothing else (`clip/clip.py`: `load`, `clip/model.py`: `build_model`).

use tuwen_data::tokenizer::ClipTokenizer;
use tuwen_models::clip::{Clip, ClipConfig, ClipImageProcessor, VisionConfig, weights};
use tuwen_nn::Scope;
use tuwen_tensor::checkpoint::{Cast, DType, StoredType, TensorSource, TorchArchive};

use super::{Export, Format, Parts, Target, ends_at_largest_id, pixels, understood};
use crate::Error;

const TARGET: Target = Target::OpenAi;

/// Weights under OpenAI's names. A vocabulary that is not OpenAI's lies beside them, where tuwen finds it.
pub(super) fn export(parts: Parts<'_>, stored: StoredType) -> Result<Export<'_>, Error> {
    let fault = |error: &dyn ToString| TARGET.cannot_say(error.to_string());
    let counted = Clip::new(parts.config, Scope::count()).map_err(|error| fault(&error))?;
    let names = weights::to_open_clip(counted.parameters().clone());
    let read = ClipConfig::sizes_of_state_dict(&names).map_err(|error| fault(&error))?;
    understood(TARGET, parts.config, &read)?;
    four_times_as_wide(parts.config)?;
    ends_at_largest_id(TARGET, parts)?;
    let openai = ClipImageProcessor::openai(parts.config.vision.image_size());
    pixels::understood(TARGET, parts.processor, &openai)?;
    let weights = Cast::new(Box::new(weights::to_open_clip(parts.weights)) as Box<dyn TensorSource>, stored);
    let tokenizer = parts.tokenizer.filter(|known| !known.same_vocabulary(&ClipTokenizer::openai()));
    let mut notes = Vec::new();
    if weights.info("token_embedding.weight").is_some_and(|info| info.dtype == DType::F32) {
        notes.push("openai/CLIP rounds matrices to half precision while it loads them".to_owned());
    }
    if tokenizer.is_some() {
        notes.push("openai/CLIP has a tokenizer of its own, with another vocabulary".to_owned());
    }
    Ok(Export {
        weights,
        format: Format::Torch(TorchArchive::TorchScript),
        weights_name: "model.pt",
        documents: Vec::new(),
        tokenizer,
        classifier: None,
        notes,
    })
}

/// The one width that the program does not read from the shapes.
fn four_times_as_wide(config: &ClipConfig) -> Result<(), Error> {
    let text = ("text", config.text.hidden_size, config.text.intermediate_size);
    let vision = match &config.vision {
        VisionConfig::Vit(vit) => Some(("vision", vit.hidden_size, vit.intermediate_size)),
        VisionConfig::ResNet(_) => None,
    };
    match vision.into_iter().chain([text]).find(|(_, hidden, inner)| *inner != 4 * hidden) {
        None => Ok(()),
        Some((tower, hidden, inner)) => Err(TARGET.cannot_say(format!(
            "{tower} intermediate_size is {inner}, which it would read as {}",
            4 * hidden
        ))),
    }
}
