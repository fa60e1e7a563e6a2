//! What can go wrong between a data set and its metrics.

/// Why a benchmark could not be run. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A data set that cannot be opened.
    #[error(transparent)]
    Data(#[from] tuwen_data::dataset::DataError),
    /// Predictions or annotations that cannot be used.
    #[error(transparent)]
    Annotations(#[from] crate::annotations::AnnotationError),
    /// The model cannot be asked for what the benchmark needs.
    #[error("{0}")]
    Model(String),
    /// No sample of a data set can be read.
    #[error("{data}: no image can be read; the first: {reason}")]
    NoImages {
        /// The data set.
        data: String,
        /// What is wrong with the first sample.
        reason: String,
    },
    /// Samples without a class where the benchmark needs one.
    #[error("{data}: {missing} of {total} samples have no class; the first is {first}")]
    NoClass {
        /// The data set.
        data: String,
        /// Samples without a class.
        missing: usize,
        /// Samples that can be read.
        total: usize,
        /// The key of the first of them.
        first: String,
    },
    /// A class of one data set that another, which was learnt from, does not have.
    #[error("{data}: class {class:?} of sample {key} does not occur in what was learnt from")]
    UnknownClass {
        /// The data set.
        data: String,
        /// The class.
        class: String,
        /// The sample.
        key: String,
    },
    /// Samples without captions where the benchmark needs them.
    #[error("{0}: this needs captions, and there are none")]
    NoCaptions(String),
    /// Captions of one image only, between which there is nothing to tell apart.
    #[error("{0}: telling captions of images apart needs two images with captions")]
    OneImage(String),
    /// One class only, between which there is nothing to tell apart.
    #[error("{data}: {count} class; telling classes apart needs two")]
    OneClass {
        /// The data set.
        data: String,
        /// Classes in it.
        count: usize,
    },
    /// More memory than is allowed.
    #[error("needs {needed} MB of memory for {what}, more than the {limit} MB allowed")]
    Memory {
        /// Megabytes needed.
        needed: u64,
        /// Megabytes allowed.
        limit: u64,
        /// What they are for.
        what: String,
    },
    /// A setting without sense.
    #[error("{0}")]
    Setting(String),
    /// Features that are no numbers.
    #[error("the model gives features that are no numbers")]
    NotFinite,
}
