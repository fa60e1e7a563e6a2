//! The model inside this library: a small CLIP in open_clip's layout.

use crate::place::Embedded;

/// Its files by name; empty where the build has none.
pub(crate) const FILES: &[Embedded] = &[];

/// Its weights among them.
pub(crate) const WEIGHTS: &str = "open_clip_model.safetensors";
