//! What can be in the way of a job.

use std::io;
use std::path::{Path, PathBuf};

use tuwen_data::dataset::DataError;

use crate::ModelError;

/// An error of a job. Each says where it is; what was finished before is kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages name the fields
pub enum JobError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },

    #[error(transparent)]
    Data(#[from] DataError),

    #[error("the model failed: {0}")]
    Model(ModelError),

    #[error("another process is at work in {}", path.display())]
    Locked { path: PathBuf },

    #[error("{} is not empty, and not the output of such a job", path.display())]
    NotEmpty { path: PathBuf },

    #[error("{} was begun otherwise: {difference}", path.display())]
    OtherSettings { path: PathBuf, difference: String },

    #[error("{} has changed since shards of it were finished: {difference}", path.display())]
    SourceChanged { path: PathBuf, difference: String },

    #[error("{} and {} would both be called {name}", first.display(), second.display())]
    SameName { name: String, first: PathBuf, second: PathBuf },

    #[error("{}: {problem}", path.display())]
    Damaged { path: PathBuf, problem: String },

    #[error("{option}: {problem}")]
    Option { option: &'static str, problem: String },

    #[error("stopped before the end: {done} of {shards} shards are finished")]
    Stopped { done: usize, shards: usize },
}

impl JobError {
    /// Wraps an error with the path it happened at.
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        |source| Self::Io { path, source }
    }

    /// Whether the disk is full.
    pub fn is_full_disk(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }
}
