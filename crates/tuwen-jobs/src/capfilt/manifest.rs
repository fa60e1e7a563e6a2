//! What is told of finished shards and of a whole job.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::tally::Tally;

/// A finished shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its name.
    pub shard: String,
    /// The file that it was made of.
    pub source: String,
    /// Length of that file, where it is a local one.
    pub source_bytes: Option<u64>,
    /// Samples of that file.
    pub source_samples: usize,
    /// Number of its first sample in that file.
    pub first: usize,
    /// The file with what was kept, and its length; none if nothing was.
    pub data: Option<(String, u64)>,
    /// What became of its samples.
    pub tally: Tally,
}

/// What became of a whole job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Shards that are finished.
    pub shards: usize,
    /// Source files that could not be read, each with the reason.
    pub damaged: Vec<[String; 2]>,
    /// What became of the samples of all finished shards.
    pub tally: Tally,
}

impl Manifest {
    /// Whether what it tells of is still there.
    pub(super) fn holds(&self, target: &Path) -> bool {
        self.data
            .as_ref()
            .is_none_or(|(name, bytes)| target.join(name).metadata().is_ok_and(|file| file.len() == *bytes))
    }
}
