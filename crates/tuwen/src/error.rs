//! What can go wrong between a name and a result.

use std::io;
use std::path::{Path, PathBuf};

use tuwen_data::image::ImageError;
use tuwen_data::tokenizer::TokenizerError;
use tuwen_models::clip::config::ConfigError;
use tuwen_models::clip::processor::ProcessorError;
use tuwen_models::generate::GenerationError;
use tuwen_nn::LoadReport;
use tuwen_tensor::checkpoint::CheckpointError;

use crate::Ability;

/// Why a model could not be loaded or used. Every message is one line, except [`Error::Load`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that leads nowhere.
    #[error(
        "no model {0:?}: no file or directory, no hub id (organisation/name), no built-in name (builtin)"
    )]
    NoSuchModel(String),
    /// A hub id that no cache holds.
    #[error("{model} is not in the local hub cache ({})", list(cache_dirs))]
    NotInCache {
        /// The id.
        model: String,
        /// Where it was looked for.
        cache_dirs: Vec<PathBuf>,
    },
    /// The built-in model is not part of this build.
    #[error("this build has no built-in model; name one with a directory, a checkpoint file or a hub id")]
    NoBuiltIn,
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A weight file could not be opened.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Weights of another kind of model.
    #[error("{}: these are no weights of a CLIP model (tensors are called {names})", path.display())]
    NotClip {
        /// The weight file.
        path: PathBuf,
        /// The first names in it.
        names: String,
    },
    /// Weights of no family that is known.
    #[error("{}: these are no weights of a CLIP, BLIP or ALBEF model (tensors are called {names})", path.display())]
    UnknownFamily {
        /// The weight file.
        path: PathBuf,
        /// The first names in it.
        names: String,
    },
    /// Weights that are no BLIP's and no ALBEF's.
    #[error("{}: these are no weights of a BLIP or ALBEF model (tensors are called {names})", path.display())]
    NotGrounded {
        /// The weight file.
        path: PathBuf,
        /// The first names in it.
        names: String,
    },
    /// The configuration is missing where the weights do not tell it.
    #[error("{}: no configuration (looked for {looked_for})", directory.display())]
    NoConfig {
        /// Where it was looked for.
        directory: PathBuf,
        /// File names.
        looked_for: &'static str,
    },
    /// A configuration cannot be used.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
    /// A description of how images are prepared cannot be used.
    #[error("{}: {source}", path.display())]
    Processor {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ProcessorError,
    },
    /// Images are prepared for another size than the network takes.
    #[error("{}: images are made {got}, the network takes {expected} x {expected} pixels", path.display())]
    ImageSize {
        /// The file that describes the preparation.
        path: PathBuf,
        /// The size that the network takes.
        expected: usize,
        /// The size that images are given.
        got: String,
    },
    /// An image size that the network cannot be made for.
    #[error("image size {size}: {reason}")]
    Resize {
        /// The size asked for.
        size: usize,
        /// Why not.
        reason: String,
    },
    /// Sizes that no network can have.
    #[error("what-if: {0}")]
    WhatIf(#[from] tuwen_models::what_if::WhatIfError),
    /// Other sizes are asked for of weights whose network is not known.
    #[error("{0}: the sizes of this network are not known, so they cannot be changed")]
    UnknownSizes(String),
    /// A tokenizer could not be read, or a text not be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A text is to be read by a model without a tokenizer.
    #[error("{}: no tokenizer, so no text can be read (looked for {looked_for}; its vocabulary has {vocab_size} tokens)", directory.display())]
    NoTokenizer {
        /// Where it was looked for.
        directory: PathBuf,
        /// File names.
        looked_for: &'static str,
        /// Number of token ids of the model.
        vocab_size: usize,
    },
    /// The tokenizer belongs to another model.
    #[error("{}: the tokenizer {problem}", directory.display())]
    WrongTokenizer {
        /// Where it lies.
        directory: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// Two models in one directory.
    #[error("{}: two models: {reason}", directory.display())]
    TwoModels {
        /// The directory.
        directory: PathBuf,
        /// The files, and how the models differ.
        reason: String,
    },
    /// A low-rank adapter that cannot be used.
    #[error("{}: {reason}", path.display())]
    Adapter {
        /// The adapter's directory or file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Weights and configuration do not fit together.
    #[error("{}: {}{report}", path.display(), misfit.as_ref().map(|line| format!("{line}\n")).unwrap_or_default())]
    Load {
        /// The weight file.
        path: PathBuf,
        /// The first size in which they differ, if one does.
        misfit: Option<String>,
        /// Everything that does not fit; several lines.
        report: Box<LoadReport>,
    },
    /// A file that holds no linear classifier, or one that does not fit the model.
    #[error("{}: {reason}", path.display())]
    Classifier {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A program's layout has no place for something that a model has.
    #[error("{program} cannot hold this model: {what}")]
    CannotSay {
        /// The program.
        program: &'static str,
        /// What it cannot hold.
        what: String,
    },
    /// A place that must not be written to.
    #[error("{}: {reason}", path.display())]
    Destination {
        /// The place.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An image could not be decoded.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Texts cannot be written as is asked.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// Something that a checkpoint was not made for.
    #[error("{model} cannot {wanted}; it can {}", has.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Unable {
        /// The model.
        model: String,
        /// What was asked of it.
        wanted: Ability,
        /// What it can do.
        has: &'static [Ability],
    },
    /// Nothing to compare with.
    #[error("there are no {0} to compare with")]
    Nothing(&'static str),
    /// A prompt template without a place for the label.
    #[error("template {0:?} has no {{}} where the label goes")]
    Template(String),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn config(path: PathBuf) -> impl FnOnce(ConfigError) -> Self {
        move |source| Self::Config { path, source }
    }
}

fn list(directories: &[PathBuf]) -> String {
    match directories {
        [] => "no cache directory is known".to_owned(),
        _ => directories.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(", "),
    }
}
