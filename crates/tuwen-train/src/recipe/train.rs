//! Length and rhythm of a run.

use serde::{Deserialize, Serialize};

use super::{Objective, positive};

/// Length and rhythm of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// What is learnt.
    #[serde(default, skip_serializing_if = "Objective::is_default")]
    pub objective: Objective,
    /// Images in a step, each with its text or its class.
    pub batch_size: usize,
    /// Passes over the data.
    pub epochs: u64,
    /// Ends the run early; the schedule ends there too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Steps between checkpoints.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// Steps between lines of the log.
    #[serde(default = "default_log_every")]
    pub log_every: u64,
    /// Threads that read and decode images.
    #[serde(default = "default_threads")]
    pub threads: usize,
    /// Decoded images that are kept in memory for later epochs, in MB.
    #[serde(default = "default_cache_megabytes")]
    pub cache_megabytes: usize,
    /// Whether pairs of one class, or with the same caption, count as right for each other.
    #[serde(default = "default_true")]
    pub duplicates_are_positives: bool,
}

fn default_checkpoint_every() -> u64 {
    500
}

fn default_log_every() -> u64 {
    10
}

fn default_threads() -> usize {
    1
}

fn default_cache_megabytes() -> usize {
    2048
}

fn default_true() -> bool {
    true
}

impl Train {
    pub(super) fn check(&self) -> Result<(), String> {
        positive("train.batch_size", self.batch_size as f64)?;
        positive("train.epochs", self.epochs as f64)?;
        positive("train.checkpoint_every", self.checkpoint_every as f64)?;
        positive("train.log_every", self.log_every as f64)?;
        positive("train.threads", self.threads as f64)
    }
}
