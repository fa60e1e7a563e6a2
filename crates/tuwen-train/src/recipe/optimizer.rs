//! AdamW, its schedule, and what holds for some parameters only.

use serde::{Deserialize, Serialize};

use super::positive;
use crate::schedule::Decay;

/// AdamW and the schedule of its learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// The highest learning rate.
    #[serde(default = "default_lr")]
    pub lr: f64,
    /// Decay rates of the moments; the paper's for the kind of image tower unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// Added to the root of the second moment; the paper's for the kind of image tower unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Decoupled weight decay.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// Whether biases, norms and other vectors decay too, as in BLIP; matrices alone decay in CLIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_all: Option<bool>,
    /// Steps of the linear warm-up.
    #[serde(default)]
    pub warmup_steps: u64,
    /// The rate of the first step of the warm-up; a part of the highest unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_lr: Option<f64>,
    /// What follows the warm-up.
    #[serde(default)]
    pub schedule: Decay,
    /// The rate at which a decay ends; zero unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_lr: Option<f64>,
    /// What the rate is multiplied with after each epoch, where the schedule is `exponential_per_epoch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_rate: Option<f64>,
    /// The learning rate of a layer as a share of that of the layer above it; the head and what follows the last layer
    /// have all of it (BEiT, arXiv 2106.08254).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
    /// Greatest length of the gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grad_clip_norm: Option<f64>,
}

fn default_lr() -> f64 {
    5e-4
}

fn default_weight_decay() -> f64 {
    0.2
}

/// What happens to the parameters whose names match a pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// A parameter name in which `*` stands for any characters.
    pub pattern: String,
    /// Multiplies the learning rate.
    #[serde(default = "default_lr_scale")]
    pub lr_scale: f64,
    /// Leaves the parameters as they are.
    #[serde(default)]
    pub freeze: bool,
}

fn default_lr_scale() -> f64 {
    1.0
}

impl Group {
    /// Whether the pattern fits a whole name.
    pub fn matches(&self, name: &str) -> bool {
        tuwen_tensor::checkpoint::fits(&self.pattern, name)
    }
}

impl Optimizer {
    pub(super) fn check(&self) -> Result<(), String> {
        positive("optimizer.lr", self.lr)?;
        for (name, rate) in [("warmup_lr", self.warmup_lr), ("min_lr", self.min_lr)] {
            if let Some(rate) = rate.filter(|rate| !(0.0..=self.lr).contains(rate)) {
                return Err(format!("optimizer.{name} is {rate}; it has to be between 0 and optimizer.lr"));
            }
        }
        match (self.schedule == Decay::ExponentialPerEpoch, self.decay_rate) {
            (true, Some(rate)) if rate > 0.0 && rate <= 1.0 => {}
            (true, _) => {
                return Err(
                    "schedule \"exponential_per_epoch\" needs optimizer.decay_rate, above 0 and at most 1"
                        .into(),
                );
            }
            (false, Some(_)) => {
                return Err("optimizer.decay_rate needs schedule = \"exponential_per_epoch\"".into());
            }
            (false, None) => {}
        }
        if let Some(decay) = self.layer_decay.filter(|decay| !(*decay > 0.0 && *decay <= 1.0)) {
            return Err(format!("optimizer.layer_decay is {decay}; it has to be above 0 and at most 1"));
        }
        self.grad_clip_norm.map_or(Ok(()), |norm| positive("optimizer.grad_clip_norm", norm))
    }
}
