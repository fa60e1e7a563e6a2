//! What can be measured.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// A part of the work with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Stage {
    /// JPEG to pixels.
    Decode,
    /// Pixels to the input of the model.
    Resize,
    /// The image tower.
    EncodeImage,
    /// The text tower.
    EncodeText,
    /// A step of training.
    TrainStep,
    /// From the start of a process to its first embedding.
    StartUp,
}

impl Stage {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Self; 6] =
        [Self::Decode, Self::Resize, Self::EncodeImage, Self::EncodeText, Self::TrainStep, Self::StartUp];

    /// Whether a network computes, in a precision that may be chosen.
    pub fn has_precision(self) -> bool {
        !matches!(self, Self::Decode | Self::Resize)
    }

    /// Whether it needs the model in memory.
    pub fn needs_weights(self) -> bool {
        matches!(self, Self::EncodeImage | Self::EncodeText)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}
