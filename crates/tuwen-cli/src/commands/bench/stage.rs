//! What can be measured.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;
use tuwen::{Ability, Opened};

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
    /// An image to the first token of its caption.
    CaptionFirstToken,
    /// The same where three beams go on from it.
    CaptionFirstTokenBeams3,
    /// Each later token.
    CaptionToken,
    /// Each later token of three beams.
    CaptionTokenBeams3,
}

/// What is measured of captions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writing {
    /// The first token, with all that comes before it; else each later one.
    pub first: bool,
    /// Texts that are continued at the same time.
    pub beams: usize,
}

impl Stage {
    /// Those that need no weights, and those of CLIP, in the order in which they are measured.
    const CLIP: [Self; 6] =
        [Self::Decode, Self::Resize, Self::EncodeImage, Self::EncodeText, Self::TrainStep, Self::StartUp];
    /// Those of every network that sees.
    const SEEING: [Self; 3] = [Self::Decode, Self::Resize, Self::EncodeImage];
    /// Those of a network that writes captions.
    const CAPTIONS: [Self; 4] = [
        Self::CaptionFirstToken,
        Self::CaptionFirstTokenBeams3,
        Self::CaptionToken,
        Self::CaptionTokenBeams3,
    ];

    /// Those that a model has.
    pub fn of(files: &Opened) -> Vec<Self> {
        match files {
            Opened::Clip(_) => Self::CLIP.to_vec(),
            Opened::Grounded(files) if files.config.abilities().contains(&Ability::Caption) => {
                [&Self::SEEING[..], &Self::CAPTIONS].concat()
            }
            Opened::Grounded(_) => Self::SEEING.to_vec(),
        }
    }

    /// Whether a network computes, in a precision that may be chosen.
    pub fn has_precision(self) -> bool {
        !matches!(self, Self::Decode | Self::Resize)
    }

    /// Whether it needs the model in memory.
    pub fn needs_weights(self) -> bool {
        matches!(self, Self::EncodeImage | Self::EncodeText) || self.writing().is_some()
    }

    /// What it measures of captions.
    pub fn writing(self) -> Option<Writing> {
        match self {
            Self::CaptionFirstToken => Some(Writing { first: true, beams: 1 }),
            Self::CaptionFirstTokenBeams3 => Some(Writing { first: true, beams: 3 }),
            Self::CaptionToken => Some(Writing { first: false, beams: 1 }),
            Self::CaptionTokenBeams3 => Some(Writing { first: false, beams: 3 }),
            _ => None,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}
