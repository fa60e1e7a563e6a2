//! Length and rhythm of a run.

use serde::{Deserialize, Serialize};

use super::positive;

/// Length and rhythm of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Image-text pairs in a step.
    pub batch_size: usize,
    /// Passes over the data.
    pub epochs: u64,
    /// Ends the run early; the schedule ends there too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Share of the past in a moving average of what is trained, which evaluations and exported models then use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// Averages over fewer steps at first: the decay is at most `(1 + step) / (10 + step)`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ema_warmup: bool,
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
        match self.ema_decay {
            Some(decay) if !(decay > 0.0 && decay < 1.0) => {
                return Err(format!("train.ema_decay is {decay}; it has to be between 0 and 1"));
            }
            None if self.ema_warmup => return Err("train.ema_warmup needs train.ema_decay".into()),
            _ => {}
        }
        positive("train.checkpoint_every", self.checkpoint_every as f64)?;
        positive("train.log_every", self.log_every as f64)?;
        positive("train.threads", self.threads as f64)
    }
}
