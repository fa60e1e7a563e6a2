//! The model inside this library: the files of a small CLIP in a directory of this crate.

use crate::place::Embedded;

/// Files below `builtin/`, by name: exactly one of them holds weights.
macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../builtin/", $name)))),*]
    };
}

/// The files of the model.
pub(crate) const FILES: &[Embedded] =
    embedded!["open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"];

/// The ending of the weights among them.
pub(crate) const WEIGHTS: &str = ".safetensors";
