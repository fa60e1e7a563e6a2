//! What can be wrong with predictions and annotations.

use std::io;
use std::path::PathBuf;

/// Why predictions cannot be measured. Every message is one line; `noun` is what an id stands for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages name the fields
pub enum AnnotationError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },

    #[error("{path}: {problem}")]
    Json { path: PathBuf, problem: String },

    #[error("{path}: expected {expected}")]
    Form { path: PathBuf, expected: &'static str },

    #[error("{path}: no image of split {split}; there are {known}")]
    Split { path: PathBuf, split: String, known: String },

    #[error("{source_name} has nothing to measure")]
    Empty { source_name: String },

    #[error("{source_name}: {count} {noun}s occur more than once; the first is {first}")]
    Duplicate { source_name: String, noun: &'static str, count: usize, first: String },

    #[error("{source_name}: {count} of {total} {noun}s have no {what}; the first is {first}")]
    Without {
        source_name: String,
        noun: &'static str,
        what: &'static str,
        count: usize,
        total: usize,
        first: String,
    },

    #[error("{source_name}: {count} of {total} {noun}s are not in {references}; the first is {first}")]
    Unknown {
        source_name: String,
        references: String,
        noun: &'static str,
        count: usize,
        total: usize,
        first: String,
    },

    #[error("{source_name} lacks {count} of the {total} {noun}s of {references}; the first is {first}")]
    Missing {
        source_name: String,
        references: String,
        noun: &'static str,
        count: usize,
        total: usize,
        first: String,
    },
}
