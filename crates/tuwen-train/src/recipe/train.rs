//! Length and rhythm of a run.

use serde::{Deserialize, Serialize};
use tuwen_nn::{DropoutRates, PairLoss};
use tuwen_tensor::Precision;

use super::{Objective, positive};

/// What is minimised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Softmax over the similarities of a batch, in both directions.
    #[default]
    Clip,
    /// A sigmoid for each pair of image and text; the model gets a `logit_bias`.
    Siglip,
}

/// What products are computed in while a model learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainPrecision {
    /// Single precision.
    #[default]
    F32,
    /// Operands rounded to 8 significant bits, sums in single precision.
    Bf16,
}

/// Length and rhythm of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// What is learnt.
    #[serde(default, skip_serializing_if = "is_default")]
    pub objective: Objective,
    /// What is minimised in contrastive training.
    #[serde(default, skip_serializing_if = "is_default")]
    pub loss: Loss,
    /// What the weights of linear layers are multiplied in, and their gradients and attention with them. Weights, moments,
    /// norms, losses and the similarities of a batch stay in single precision. Convolutions forward alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub precision: TrainPrecision,
    /// Image-text pairs that are compared with each other, or labelled images.
    pub batch_size: usize,
    /// Pairs that go through the towers together, where that is less than a batch: a batch of any size then needs memory
    /// for this many only, and each tower runs forward twice. The gradients stay those of the whole batch (GradCache,
    /// arXiv 2101.06983), except that a ResNet takes its batch statistics over these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch_size: Option<usize>,
    /// Batches whose gradients are averaged in a step; pairs of different batches are not compared.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate_steps: u64,
    /// Computes each layer once more in the backward pass instead of keeping what that needs: a third more time, and
    /// memory for the inputs of the layers only. Changes no number.
    #[serde(default)]
    pub gradient_checkpointing: bool,
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

impl From<Loss> for PairLoss {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Clip => Self::Softmax,
            Loss::Siglip => Self::Sigmoid,
        }
    }
}

impl From<TrainPrecision> for Precision {
    fn from(precision: TrainPrecision) -> Self {
        match precision {
            TrainPrecision::F32 => Self::F32,
            TrainPrecision::Bf16 => Self::Bf16,
        }
    }
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn one() -> u64 {
    1
}

fn is_one(value: &u64) -> bool {
    *value == 1
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

/// What is left out of states and, as much unless given, of attention.
pub(super) fn dropout_rates(dropout: f64, attention: Option<f64>) -> DropoutRates {
    DropoutRates { hidden: dropout as f32, attention: attention.unwrap_or(dropout) as f32 }
}

/// What has to be at least 0 and below 1.
pub(super) fn share(name: &str, value: f64) -> Result<(), String> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(format!("{name} is {value}; it has to be at least 0 and below 1"))
}

impl Train {
    pub(super) fn check(&self) -> Result<(), String> {
        positive("train.batch_size", self.batch_size as f64)?;
        positive("train.accumulate_steps", self.accumulate_steps as f64)?;
        if let Some(micro) = self.micro_batch_size {
            positive("train.micro_batch_size", micro as f64)?;
            if !self.batch_size.is_multiple_of(micro) {
                let batch = self.batch_size;
                return Err(format!(
                    "train.micro_batch_size is {micro}; it has to divide the batch of {batch}"
                ));
            }
        }
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
