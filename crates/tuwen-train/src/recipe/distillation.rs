//! A teacher whose vectors are learnt.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// From whom is learnt, and how much it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distillation {
    /// A model that compares images and texts, whose vectors are as long as those of the network: a directory, a file, a
    /// built-in model by its name.
    pub teacher: PathBuf,
    /// What the squared distances of the vectors of an image and of its text from the teacher's count in the loss.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}
