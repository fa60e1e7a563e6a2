//! What ALBEF learns.

use serde::{Deserialize, Serialize};
use tuwen_models::albef::AlbefTask;
use tuwen_nn::DropoutRates;

use super::train::{dropout_rates, is_default, share};

/// What an ALBEF learns to do, which decides its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlbefLearns {
    /// Contrast, matching and masked tokens.
    #[default]
    Pretrain,
    /// Contrast and matching.
    Retrieval,
    /// Answers to questions, which a decoder writes.
    Vqa,
}

impl From<AlbefLearns> for AlbefTask {
    fn from(task: AlbefLearns) -> Self {
        match task {
            AlbefLearns::Pretrain => Self::Pretrain,
            AlbefLearns::Retrieval => Self::Retrieval,
            AlbefLearns::Vqa => Self::Vqa,
        }
    }
}

/// What is learnt and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Albef {
    /// What it shall do.
    pub task: AlbefLearns,
    /// The first layer of a new text encoder that looks at images; half of its layers unless given.
    pub fusion_layer: Option<usize>,
    /// The part of the tokens that are hidden and predicted in pre-training.
    pub mlm_probability: f64,
    /// The part of the texts' states that is left out at random.
    pub dropout: f64,
    /// The part of the probabilities with which texts attend that is left out at random; as `dropout` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_dropout: Option<f64>,
    /// Most questions about an image that are learnt from at a time.
    #[serde(skip_serializing_if = "is_one")]
    pub texts_per_image: usize,
    /// Most words of a caption.
    pub max_words: usize,
    /// Share of the past in copies of the encoders that follow slowly.
    pub momentum: f64,
    /// What the copies made of earlier batches, with which images and texts are compared as well.
    pub queue_size: usize,
    /// How much the copies' opinion counts as a target.
    pub alpha: f64,
    /// Passes over the data in which that grows from 0.
    pub alpha_ramp_epochs: f64,
}

impl Default for Albef {
    fn default() -> Self {
        Self {
            task: AlbefLearns::default(),
            fusion_layer: None,
            mlm_probability: 0.15,
            dropout: 0.1,
            attention_dropout: None,
            texts_per_image: 1,
            max_words: 30,
            momentum: 0.995,
            queue_size: 0,
            alpha: 0.4,
            alpha_ramp_epochs: 1.0,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
fn is_one(value: &usize) -> bool {
    *value == 1
}

impl Albef {
    /// What texts leave out.
    pub(crate) fn dropout_rates(&self) -> DropoutRates {
        dropout_rates(self.dropout, self.attention_dropout)
    }

    /// How much the copies' opinion counts after so many passes over the data.
    pub(crate) fn alpha_after(&self, epochs: f64) -> f32 {
        let ramp = self.alpha_ramp_epochs;
        let part = if ramp > 0.0 { (epochs / ramp).min(1.0) } else { 1.0 };
        (self.alpha * part) as f32
    }

    pub(super) fn check(&self, batch_size: usize) -> Result<(), String> {
        share("albef.mlm_probability", self.mlm_probability)?;
        share("albef.dropout", self.dropout)?;
        share("albef.attention_dropout", self.attention_dropout.unwrap_or_default())?;
        share("albef.momentum", self.momentum)?;
        if !(0.0..=1.0).contains(&self.alpha) || !(0.0..).contains(&self.alpha_ramp_epochs) {
            return Err("albef.alpha has to be between 0 and 1, albef.alpha_ramp_epochs at least 0".into());
        }
        if self.max_words == 0 || self.texts_per_image == 0 {
            return Err("albef.max_words and albef.texts_per_image have to be at least 1".into());
        }
        if !self.queue_size.is_multiple_of(batch_size) {
            let size = self.queue_size;
            return Err(format!(
                "albef.queue_size is {size}; it has to be a multiple of the batch of {batch_size}"
            ));
        }
        Ok(())
    }

    /// Whether it is as if it were not there.
    pub(super) fn is_default(&self) -> bool {
        is_default(self)
    }
}
