//! What the files of every model family have in common, and which family they are of.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tuwen_kernels::Precision;
use tuwen_models::generate::GenerationDefaults;
use tuwen_nn::{LoadReport, Scope};
use tuwen_tensor::checkpoint::TensorSource;

use super::{ModelFiles, open_checkpoint};
use crate::{Error, GroundedFiles, LinearClassifier, Options, adapter};

/// Models that are opened alike: what they consist of.
pub trait Family {
    /// Sizes of a network.
    type Config;
    /// How images are prepared.
    type Processor;
    /// What turns texts into ids.
    type Tokenizer;
    /// The network itself.
    type Network;

    /// Builds a network from a scope, which decides whether parameters are loaded, compared or drawn.
    ///
    /// # Errors
    /// The report of everything that does not fit.
    fn build(config: &Self::Config, scope: Scope) -> Result<Self::Network, LoadReport>;
}

/// The files of a model, opened and checked against each other.
pub struct Files<F: Family> {
    /// What the user calls the model.
    pub name: String,
    /// Sizes of the network.
    pub config: F::Config,
    /// Weights under our names.
    pub weights: Arc<dyn TensorSource>,
    /// Where the weights come from.
    pub weights_path: PathBuf,
    /// How images are prepared.
    pub processor: F::Processor,
    /// What turns texts into ids.
    pub tokenizer: F::Tokenizer,
    /// What a user should know about how the files were understood.
    pub notes: Vec<String>,
    /// What the files say of how texts are written; of a model that writes none, nothing.
    pub generation: GenerationDefaults,
    /// The classifier that the model was fine-tuned with.
    pub own_classifier: Option<LinearClassifier>,
    /// What the network multiplies in.
    pub precision: Precision,
    /// The first size in which weights and configuration differ; then they do not load.
    pub(crate) misfit: Option<String>,
}

impl<F: Family> Files<F> {
    /// Whether every weight is there and has its shape.
    ///
    /// # Errors
    /// The report of everything that does not fit.
    pub fn check(&self) -> Result<(), Error> {
        self.build(Scope::compare(Arc::clone(&self.weights))).map(drop)
    }

    /// Builds the network.
    ///
    /// # Errors
    /// The report of everything that does not fit.
    pub fn load(&self) -> Result<F::Network, Error> {
        self.build(Scope::load(Arc::clone(&self.weights)).with_precision(self.precision))
    }

    /// The report of a load comes with the reason in a line where it is known.
    fn build(&self, scope: Scope) -> Result<F::Network, Error> {
        F::build(&self.config, scope).map_err(|report| Error::Load {
            path: self.weights_path.clone(),
            misfit: self.misfit.clone(),
            report: Box::new(report),
        })
    }
}

/// The files of a model, of whichever family they are.
pub enum Opened {
    /// CLIP and SigLIP.
    Clip(ModelFiles),
    /// BLIP and ALBEF.
    Grounded(GroundedFiles),
}

impl Opened {
    /// Finds and opens a model; the names of its weights tell the family.
    ///
    /// # Errors
    /// As [`ModelFiles::open`] and [`GroundedFiles::open`]; weights of neither family.
    pub fn open(model: &str, options: &Options) -> Result<Self, Error> {
        if adapter::as_model(model, options)?.is_some() {
            return ModelFiles::open(model, options).map(Self::Clip);
        }
        let grounded = match open_checkpoint(model, options) {
            Ok((checkpoint, _)) => GroundedFiles::is_one(&checkpoint),
            // A directory of CLIP's may hold other weights that can be read.
            Err(Error::Checkpoint(_)) => false,
            Err(error) => return Err(error),
        };
        if grounded {
            return GroundedFiles::open(model, options).map(Self::Grounded);
        }
        ModelFiles::open(model, options).map(Self::Clip).map_err(|error| match error {
            Error::NotClip { path, names } => Error::UnknownFamily { path, names },
            error => error,
        })
    }

    /// What the user calls the model.
    pub fn name(&self) -> &str {
        match self {
            Self::Clip(files) => &files.name,
            Self::Grounded(files) => &files.name,
        }
    }

    /// Where the weights come from.
    pub fn weights_path(&self) -> &Path {
        match self {
            Self::Clip(files) => &files.weights_path,
            Self::Grounded(files) => &files.weights_path,
        }
    }

    /// Whether every weight is there and has its shape.
    ///
    /// # Errors
    /// The report of everything that does not fit.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::Clip(files) => files.check(),
            Self::Grounded(files) => files.check(),
        }
    }

    /// What a user should know about how the files were understood.
    pub fn notes(&self) -> &[String] {
        match self {
            Self::Clip(files) => &files.notes,
            Self::Grounded(files) => &files.notes,
        }
    }
}
