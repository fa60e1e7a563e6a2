//! What can be wrong with data.

use std::io;
use std::path::PathBuf;

/// An error of a data set or of the loader. Each says where it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages name the fields
pub enum DataError {
    #[error("cannot read {path}: {source}")]
    Io { path: PathBuf, source: io::Error },

    #[error("{0} matches no file")]
    NoMatch(String),

    #[error(
        "{path} is no data set: expected a folder of images, a tar, Parquet, CSV, TSV or JSON file, got {got}"
    )]
    UnknownFormat { path: PathBuf, got: &'static str },

    #[error("{pattern}: {problem}")]
    Pattern { pattern: String, problem: &'static str },

    #[error("{path} holds no images")]
    Empty { path: PathBuf },

    #[error("{shard}: member {member}: {problem}")]
    Member { shard: PathBuf, member: String, problem: String },

    #[error("{shard}: member {member}: {problem}")]
    Cut { shard: PathBuf, member: String, problem: String },

    #[error("{path}: {problem}")]
    Parquet { path: PathBuf, problem: String },

    #[error("{path}: {problem}")]
    Beside { path: PathBuf, problem: String },

    #[error("{path}{}: {problem}", line.map(|line| format!(" line {line}")).unwrap_or_default())]
    Table { path: PathBuf, line: Option<u64>, problem: String },

    #[error("{path} line {line}: there is no {}", image.display())]
    NoImage { path: PathBuf, line: u64, image: PathBuf },

    #[error("{path} lies in a store, and this build reads local files only: build with --features remote")]
    NoRemote { path: PathBuf },

    #[error("{url}: {problem}")]
    Remote { url: String, problem: String },

    #[error("sample {index} asked of {name}, which has {len}")]
    OutOfRange { name: String, index: usize, len: usize },

    #[error("{option}: {problem}")]
    Option { option: &'static str, problem: String },

    #[error("{name}: {count} samples in a row cannot be used, the first one because: {reason}")]
    AllBroken { name: String, count: usize, reason: String },

    #[error("{name}: none of the {looked_at} samples looked at can be used, the first one because: {reason}")]
    NothingUsable { name: String, looked_at: usize, reason: String },

    #[error("a panic while preparing batch {index} of epoch {epoch}: this is a bug")]
    Panicked { epoch: u64, index: u64 },
}

impl DataError {
    /// Whether it says that a file is not there.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::NoImage { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether it says that a file has not all that it had.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Cut { .. })
    }

    /// Wraps an input error with the path it happened at.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
