//! The model inside this library: a small CLIP in open_clip's layout.

use crate::place::Embedded;

macro_rules! embedded {
    ($($name:literal),*) => {
        &[$(($name, include_bytes!(concat!("../builtin/", $name)))),*]
    };
}

/// Its files by name.
pub(crate) const FILES: &[Embedded] =
    embedded!["open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"];

/// Its weights among them.
pub(crate) const WEIGHTS: &str = "open_clip_model.safetensors";
