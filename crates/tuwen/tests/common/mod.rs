//! What tests of whole models share: one of each kind of image tower, and pictures.

#![allow(dead_code)] // each test file uses a part

use std::collections::BTreeMap;
use std::sync::OnceLock;

use tuwen::{BUILTIN, Model, Options, Picture};
use tuwen_models::clip::{Clip, ClipConfig};
use tuwen_nn::Scope;
use tuwen_tensor::checkpoint::{TensorSource as _, write_safetensors};

/// A vision transformer with OpenAI's vocabulary, whose tokenizer needs no files.
const VIT: &str = r#"{"model_cfg": {"embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 48, "head_width": 12, "patch_size": 8},
    "text_cfg": {"context_length": 40, "vocab_size": 49408, "width": 24, "heads": 3, "layers": 2}}}"#;

/// The built-in model, which has a ModifiedResNet, and a random one with a vision transformer.
pub fn models() -> &'static [Model; 2] {
    static MODELS: OnceLock<[Model; 2]> = OnceLock::new();
    MODELS.get_or_init(|| [tuwen::load(BUILTIN, &Options::default()).expect("it is built in"), vit()])
}

fn vit() -> Model {
    let place = tempfile::tempdir().expect("a directory");
    let config = ClipConfig::from_open_clip_json(VIT).expect("a configuration");
    let clip = Clip::new(&config, Scope::init(5)).expect("nothing is loaded");
    let parameters = clip.parameters();
    let read = |name: String| {
        let tensor = parameters.read(&name).expect("read");
        (name, tensor)
    };
    let tensors = parameters.names().into_iter().map(read);
    write_safetensors(&place.path().join("model.safetensors"), tensors, &BTreeMap::new()).expect("written");
    std::fs::write(place.path().join("open_clip_config.json"), VIT).expect("written");
    tuwen::load(&place.path().to_string_lossy(), &Options::default()).expect("loaded")
}

/// A BMP whose pixels follow from a number.
pub fn picture(width: u8, height: u8, seed: u32) -> Picture {
    let (width, height) = (u32::from(width), u32::from(height));
    let row = (width * 3).next_multiple_of(4);
    let size = 54 + row * height;
    let mut file = b"BM".to_vec();
    for field in [size, 0, 54, 40, width, height, 1 | 24 << 16, 0, row * height, 0, 0, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    file.extend((0..row * height).map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as u8));
    Picture::decode(&file).expect("a BMP")
}

/// Fails where two rows differ by more than `tolerance`.
pub fn assert_close(row: &[f32], other: &[f32], tolerance: f32, what: &str) {
    assert_eq!(row.len(), other.len(), "{what}");
    for (a, b) in row.iter().zip(other) {
        assert!((a - b).abs() <= tolerance, "{a} and {b}: {what}");
    }
}
