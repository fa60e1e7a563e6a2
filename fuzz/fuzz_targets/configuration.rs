//! The JSON files that describe a model and how its images are prepared; what is understood is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tuwen_data::image::{RgbImage, Size};
use tuwen_fuzz::say;
use tuwen_models::clip::{Clip, ClipConfig, ClipImageProcessor};
use tuwen_nn::Scope;
use tuwen_tensor::checkpoint::TensorSource as _;

/// Wider images are only described, since making one takes what it says.
const WIDEST: usize = 256;
/// Deeper networks are only described, since their layers are listed one by one.
const DEEPEST: usize = 64;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    for config in [ClipConfig::from_hf_json(text), ClipConfig::from_open_clip_json(text)] {
        match config {
            Ok(config) => describe(&config),
            Err(error) => say(&error),
        }
    }
    match ClipImageProcessor::from_hf_json(text) {
        Ok(processor) => prepare(&processor),
        Err(error) => say(&error),
    }
    let Ok(json) = serde_json::from_str::<Value>(text) else { return };
    match ClipImageProcessor::from_open_clip_json(json.get("preprocess_cfg").unwrap_or(&json), 16) {
        Ok(processor) => prepare(&processor),
        Err(error) => say(&error),
    }
});

fn describe(config: &ClipConfig) {
    if let Some(json) = config.to_hf_json() {
        let again = ClipConfig::from_hf_json(&json.to_string()).expect("what is written can be read");
        assert_eq!(&again, config);
    }
    if let Some(json) = config.to_open_clip_json() {
        ClipConfig::from_open_clip_json(&json.to_string()).expect("what is written can be read");
    }
    let vision = match &config.vision {
        tuwen_models::clip::VisionConfig::Vit(vit) => vit.num_hidden_layers,
        tuwen_models::clip::VisionConfig::ResNet(resnet) => resnet.layers.iter().sum(),
    };
    if vision <= DEEPEST && config.text.num_hidden_layers <= DEEPEST {
        match Clip::new(config, Scope::count()) {
            Ok(clip) => drop(clip.parameters().names()),
            Err(report) => say(&report),
        }
    }
}

fn prepare(processor: &ClipImageProcessor) {
    if let Ok(text) = processor.to_hf_json() {
        let again = ClipImageProcessor::from_hf_json(&text).expect("what is written can be read");
        assert_eq!(again.to_hf_json().ok(), Some(text));
    }
    let image = RgbImage { width: 5, height: 3, data: (0..45).collect() };
    match processor.transform.output_size() {
        Some(Size { height, width }) if height <= WIDEST && width <= WIDEST => {
            let image = processor.transform.apply(&image.into());
            assert_eq!((image.height, image.width), (height, width));
            processor.transform.pixel_values(&image);
        }
        _ => {}
    }
}
