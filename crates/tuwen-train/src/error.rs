//! What can go wrong in training, said with the file, the place and the expectation.

use std::io;
use std::path::{Path, PathBuf};

/// Why a training run did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe cannot be read as one.
    #[error("{}{}: {message}", path.display(), line.map(|line| format!(" line {line}")).unwrap_or_default())]
    Recipe {
        /// The recipe file.
        path: PathBuf,
        /// Where in it, if that is known.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// The recipe is not the one that the checkpoint was made with.
    #[error("{} was made with another recipe: {}; restore it, or start anew in another output directory", checkpoint.display(), changes.join(", "))]
    RecipeChanged {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// `key: old -> new` for each difference.
        changes: Vec<String>,
    },
    /// A group of parameters that is empty.
    #[error("[[groups]] pattern {0:?} matches no parameter")]
    UnusedGroup(String),
    /// A new run would mix with an old one.
    #[error("{} holds the checkpoints of an earlier run: resume it, or choose another output directory", .0.display())]
    OutputInUse(PathBuf),
    /// There is nothing to resume.
    #[error("{} holds no checkpoint to resume from", .0.display())]
    NothingToResume(PathBuf),
    /// A checkpoint of a run does not fit the network that the recipe describes.
    #[error("{}: {reason}", path.display())]
    State {
        /// The file concerned.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The run would take more memory than there is.
    #[error("training needs about {} of memory, {} is available", gigabytes(*needed), gigabytes(*available))]
    Memory {
        /// Estimated bytes.
        needed: u64,
        /// Bytes that there are.
        available: u64,
        /// What to set instead.
        advice: String,
    },
    /// Too little data for a single step.
    #[error("the data give {samples} samples, fewer than the {needed} of a single step")]
    TooLittleData {
        /// Samples in an epoch.
        samples: usize,
        /// Samples in a step.
        needed: usize,
    },
    /// A whole epoch without a batch.
    #[error("an epoch gave no batch: {failures} samples could not be read")]
    NoData {
        /// Samples that failed.
        failures: u64,
    },
    /// A loss or gradient is no longer a number.
    #[error("step {step}: {what} is {value}; lower the learning rate or clip the gradient")]
    Diverged {
        /// The step that was not taken.
        step: u64,
        /// Which quantity.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// Data without classes to learn.
    #[error("{0}")]
    Classes(String),
    /// A sample that is of no class of the head.
    #[error("{key}: {}", class.as_ref().map_or("no class".to_owned(), |class| format!("class {class:?} is not among those of the head")))]
    UnknownClass {
        /// The sample.
        key: String,
        /// Its class, where it has one.
        class: Option<String>,
    },
    /// Data that an evaluation cannot use.
    #[error("evaluation {eval:?}: {reason}")]
    Eval {
        /// Its name in the recipe.
        eval: String,
        /// What is missing.
        reason: String,
    },
    /// A data set that cannot be opened or read.
    #[error(transparent)]
    Data(#[from] tuwen_data::dataset::DataError),
    /// Captions that cannot become token ids.
    #[error(transparent)]
    Tokenizer(#[from] tuwen_data::tokenizer::TokenizerError),
    /// A network that the recipe asks for and that cannot be.
    #[error("[model]: {0}")]
    Model(String),
    /// Adapters that the network cannot have.
    #[error("[lora] {0}")]
    Lora(String),
    /// Towers that cannot be locked so.
    #[error("[lock] {0}")]
    Lock(String),
    /// An adapter that cannot be read, written or applied.
    #[error(transparent)]
    Adapter(Box<tuwen::Error>),
    /// Everything is frozen.
    #[error("nothing is left to learn: [lock], [lora] and [[groups]] freeze every parameter")]
    AllFrozen,
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A checkpoint file could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] tuwen_tensor::checkpoint::CheckpointError),
    /// Texts that cannot be written.
    #[error(transparent)]
    Generation(#[from] tuwen_models::generate::GenerationError),
    /// A checkpoint does not fit a configuration.
    #[error(transparent)]
    Load(#[from] tuwen_nn::LoadReport),
}

/// `1.2 GB`
pub(crate) fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// A model that cannot be opened or written.
impl From<tuwen::Error> for TrainError {
    fn from(error: tuwen::Error) -> Self {
        match error {
            tuwen::Error::Checkpoint(error) => Self::Checkpoint(error),
            tuwen::Error::Tokenizer(error) => Self::Tokenizer(error),
            other => Self::Model(other.to_string()),
        }
    }
}

impl TrainError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}
