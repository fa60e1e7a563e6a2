//! The models inside this library: their files, in directories of this crate.

use crate::place::Embedded;
use crate::{Ability, BUILTIN};

/// A model inside this library.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BuiltIn {
    /// What it is called.
    pub name: &'static str,
    /// Its files: exactly one of them holds weights.
    pub files: &'static [Embedded],
}

/// Files below a directory, by name.
macro_rules! embedded {
    ($directory:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../builtin/", $directory, "/", $name)))),*]
    };
}

/// A small CLIP.
static CLIP: BuiltIn = BuiltIn {
    name: "builtin-clip",
    files: embedded!["clip": "open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"],
};

/// A small BLIP.
static BLIP: BuiltIn = BuiltIn {
    name: "builtin-blip",
    files: embedded!["blip":
        "config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json", "vocab.txt",
    ],
};

impl BuiltIn {
    /// The model of this name; where only "the built-in one" is meant, it is the CLIP.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        if name == BUILTIN {
            return Some(&CLIP);
        }
        [&CLIP, &BLIP].into_iter().find(|model| model.name == name)
    }

    /// The file of this name.
    pub(crate) fn file(&self, name: &str) -> Option<&'static [u8]> {
        self.files.iter().find(|(known, _)| *known == name).map(|&(_, bytes)| bytes)
    }

    /// The weights, with the name of their file.
    pub(crate) fn weights(&self) -> Option<Embedded> {
        self.files.iter().find(|(name, _)| name.ends_with(".safetensors")).copied()
    }
}

impl Ability {
    /// The name of the built-in model that has it, and the better one where both do.
    pub fn builtin(self) -> &'static str {
        match self {
            Self::EmbedImages | Self::EmbedTexts | Self::Compare => CLIP.name,
            Self::EmbedBoth | Self::Match | Self::Caption | Self::Answer | Self::Explain => BLIP.name,
            // Neither has: the one that says so.
            Self::JudgeTwoImages => BLIP.name,
        }
    }
}
