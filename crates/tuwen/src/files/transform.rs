//! How images are prepared for a model.

use serde_json::Value;
use tuwen_data::image::{Resize, Size};
use tuwen_models::clip::ClipImageProcessor;

use super::{OPEN_CLIP_CONFIG, Origin};
use crate::Error;
use crate::place::Place;

/// Preparation in transformers' own file.
const HF_PROCESSOR: &str = "preprocessor_config.json";

/// Reads the preparation, or takes OpenAI's where the model does not describe one.
pub(super) fn read(place: &Place, origin: Origin, image_size: usize) -> Result<ClipImageProcessor, Error> {
    let (file, read) = match origin {
        Origin::OpenAi => ("", None),
        Origin::HuggingFace => {
            let text = place.read_text(HF_PROCESSOR)?;
            (HF_PROCESSOR, text.map(|text| ClipImageProcessor::from_hf_json(&text)))
        }
        Origin::OpenClip => {
            let config: Value = match place.read_text(OPEN_CLIP_CONFIG)? {
                Some(text) => serde_json::from_str(&text).unwrap_or_default(),
                None => Value::Null,
            };
            let preparation = config.get("preprocess_cfg");
            let read = |config| ClipImageProcessor::from_open_clip_json(config, image_size);
            (OPEN_CLIP_CONFIG, preparation.map(read))
        }
    };
    let Some(read) = read else { return Ok(ClipImageProcessor::openai(image_size)) };
    let processor = read.map_err(|source| Error::Processor { path: place.path(file), source })?;
    let expected = Size::square(image_size);
    match processor.transform.output_size() {
        Some(size) if size == expected => Ok(processor),
        other => {
            let got = other
                .map_or("of various sizes".to_owned(), |size| format!("{} x {}", size.width, size.height));
            Err(Error::ImageSize { path: place.path(file), expected: image_size, got })
        }
    }
}

/// The same preparation for another size.
pub(super) fn resized(mut processor: ClipImageProcessor, size: usize) -> ClipImageProcessor {
    let transform = &mut processor.transform;
    transform.resize = transform.resize.map(|resize| match resize {
        Resize::ShortestEdge(_) => Resize::ShortestEdge(size),
        Resize::Squash(_) => Resize::Squash(Size::square(size)),
        Resize::LongestEdge(_) => Resize::LongestEdge(Size::square(size)),
    });
    transform.center_crop = transform.center_crop.map(|_| Size::square(size));
    processor
}
