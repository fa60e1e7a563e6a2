//! CapFilt (Li et al. 2022, <https://arxiv.org/abs/2201.12086>, section 4.2): a captioner writes texts about the images of
//! a web data set, and a filter drops those texts, of both, that do not fit.
//!
//! The work is cut into shards, each a stretch of samples of one source file. A shard is finished once its data, its
//! records and its manifest are on the disk, in this order, each under its name only when it is whole. What a shard
//! holds follows from the settings and its samples alone, so that a job that was killed ends as one that was not.

mod manifest;
mod plan;
mod read;
mod record;
mod report;
mod run;
mod settings;
mod shard;
mod tally;
mod write;

pub use manifest::{Manifest, Summary};
pub use record::{JudgedText, Record, TextSource};
pub use run::{Event, Watch, run};
pub use settings::{Format, ModelId, Paths, Rule, Settings};
pub use tally::{Example, Tally, TextTally};

use tuwen_data::rng::Rng;

/// The seed of a sample: it follows from the seed of the job and the key.
pub fn seed(seed: u64, key: &str) -> u64 {
    let words = key.as_bytes().chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    let name: Vec<u64> = [seed, key.len() as u64].into_iter().chain(words).collect();
    Rng::new(&name).next_u64()
}
