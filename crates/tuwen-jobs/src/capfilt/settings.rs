//! What decides the result of a job.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tuwen_data::dataset::Access;

use crate::{Heads, JobError, Scores};

/// What decides which texts are written and kept. A job goes on only where all of it is the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What writes captions; none where only texts that are there are filtered.
    pub captioner: Option<ModelId>,
    /// What scores texts.
    pub filter: ModelId,
    /// How captions are decoded.
    pub generation: Value,
    /// Which texts are kept.
    pub rule: Rule,
    /// What random captions follow from, together with the key of a sample.
    pub seed: u64,
    /// What is written.
    pub format: Format,
    /// Samples of a shard.
    pub shard_size: usize,
    /// Pictures that go through a model together.
    pub batch_size: usize,
    /// Whether large JPEG files are decoded at their full size.
    pub exact_decode: bool,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelId {
    /// What it was called, which may differ.
    pub name: String,
    /// What tells it from others.
    pub fingerprint: String,
    /// What it multiplies in.
    pub precision: String,
}

/// Which texts are kept: those that reach every threshold that is set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// The lowest probability of a match. The authors of BLIP keep what their ITM head calls a match: 0.5.
    pub itm: Option<f32>,
    /// The lowest cosine.
    pub itc: Option<f32>,
}

/// A kind of data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Tar files of images, texts and JSON objects.
    WebDataset,
    /// Parquet files of the columns `key`, `image`, `captions`, `url` and `json`.
    Parquet,
}

/// Where a job reads and writes; none of it changes the result.
#[derive(Clone, Debug)]
pub struct Paths {
    /// A data set: a folder of images or shards, or a pattern of tar, Parquet, CSV or TSV files.
    pub source: PathBuf,
    /// How stores are reached.
    pub access: Access,
    /// The directory to write.
    pub target: PathBuf,
    /// Whether what was done there before is forgotten.
    pub restart: bool,
}

impl Rule {
    /// The heads that it asks.
    pub fn heads(&self) -> Heads {
        Heads { itm: self.itm.is_some(), itc: self.itc.is_some() }
    }

    /// Whether a text of these scores is kept; one without a score that is asked for is not.
    pub fn keeps(&self, scores: &Scores) -> bool {
        let reaches = |threshold: Option<f32>, score: Option<f32>| {
            threshold.is_none_or(|threshold| score.is_some_and(|score| score >= threshold))
        };
        reaches(self.itm, scores.itm) && reaches(self.itc, scores.itc)
    }
}

impl Format {
    /// The ending of its files.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::WebDataset => "tar",
            Self::Parquet => "parquet",
        }
    }
}

impl Settings {
    /// # Errors
    /// A size of nothing, and a rule that keeps everything.
    pub fn check(&self) -> Result<(), JobError> {
        let wrong = |option, problem: &str| Err(JobError::Option { option, problem: problem.to_owned() });
        match self {
            Self { shard_size: 0, .. } => wrong("shard size", "must be at least 1"),
            Self { batch_size: 0, .. } => wrong("batch size", "must be at least 1"),
            Self { rule: Rule { itm: None, itc: None }, .. } => wrong("rule", "no head has a threshold"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_threshold_has_to_be_reached() {
        let keeps = |itm, itc, scores: [Option<f32>; 2]| {
            Rule { itm, itc }.keeps(&Scores { itm: scores[0], itc: scores[1], cut: false })
        };
        assert!(keeps(Some(0.5), None, [Some(0.5), None]));
        assert!(!keeps(Some(0.5), None, [Some(0.499), Some(1.0)]));
        assert!(keeps(None, Some(0.2), [Some(0.0), Some(0.3)]));
        assert!(!keeps(Some(0.5), Some(0.2), [Some(0.9), Some(0.1)]));
        assert!(!keeps(Some(0.5), None, [Some(f32::NAN), None]));
        assert!(!keeps(Some(0.0), None, [None, Some(1.0)]));
    }
}
