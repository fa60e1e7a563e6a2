//! What BLIP learns.

use serde::{Deserialize, Serialize};
use tuwen_models::blip::{BlipDialect, BlipTask};
use tuwen_nn::DropoutRates;

use super::train::{dropout_rates, is_default, share};

/// What a BLIP learns to do, which decides its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Contrast, matching and captions, and answers where `vqa` is above 0, by one network whose encoder and decoder share
    /// all but self-attention.
    #[default]
    Pretrain,
    /// Captions.
    Caption,
    /// Answers to questions.
    Vqa,
    /// Contrast and matching.
    Retrieval,
    /// Whether sentences about two images are true.
    Nlvr2,
}

impl From<Task> for BlipTask {
    fn from(task: Task) -> Self {
        match task {
            Task::Pretrain => Self::Pretrain,
            Task::Caption => Self::Caption,
            Task::Vqa => Self::Vqa,
            Task::Retrieval => Self::Retrieval,
            Task::Nlvr2 => Self::Nlvr,
        }
    }
}

/// What texts begin with in a new network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// As in transformers: what is read begins with `[CLS]`, captions with `[DEC]` alone.
    #[default]
    HuggingFace,
    /// As in salesforce/BLIP: what is read beside an image begins with `[ENC]`, captions with "a picture of".
    Salesforce,
}

impl From<Dialect> for BlipDialect {
    fn from(dialect: Dialect) -> Self {
        match dialect {
            Dialect::HuggingFace => Self::HuggingFace,
            Dialect::Salesforce => Self::Salesforce,
        }
    }
}

/// What is learnt, and how much each part of it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Blip {
    /// What it shall do.
    pub task: Task,
    /// What texts begin with; of a network to start from, that of its files.
    pub dialect: Dialect,
    /// Weight of the contrast between the images and texts of a batch.
    pub itc: f64,
    /// Weight of telling matching pairs from others.
    pub itm: f64,
    /// Passes over the data before this is learnt. The contrast chooses its wrong partners: until that knows something,
    /// they are drawn blindly, and in a network that is new there is nothing by which to tell them.
    #[serde(skip_serializing_if = "is_default")]
    pub itm_start_epoch: u64,
    /// Added in pre-training to the probability with which each wrong partner is drawn. As small as the authors have it,
    /// the contrast chooses the hardest; with 1 and more all are nearly alike, which a small network can learn from.
    #[serde(skip_serializing_if = "is_itm_floor")]
    pub itm_floor: f64,
    /// Weight of writing captions.
    pub lm: f64,
    /// Weight of writing answers: 1 where answers are the task, 0 in pre-training unless given.
    pub vqa: Option<f64>,
    /// Most captions, and most questions, of an image that are learnt from at a time; the contrast takes one.
    pub texts_per_image: usize,
    /// The part of a target that is shared among all tokens.
    pub label_smoothing: f64,
    /// The part of the texts' states that is left out at random.
    pub dropout: f64,
    /// The part of the probabilities with which texts attend that is left out at random; as `dropout` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_dropout: Option<f64>,
    /// The part of the images for which a branch of the last layer of their encoder is left out at random; less in the layers
    /// before it (stochastic depth).
    #[serde(skip_serializing_if = "is_default")]
    pub drop_path: f64,
    /// Most words of a caption.
    pub max_words: usize,
    /// Share of the past in copies of the encoders that follow slowly; none, without which the contrast has the images and
    /// texts of the batch alone.
    pub momentum: Option<f64>,
    /// What the copies made of earlier batches, with which images and texts are compared as well.
    pub queue_size: usize,
    /// How much the copies' opinion counts as a target.
    pub alpha: f64,
    /// Passes over the data in which that grows from 0.
    pub alpha_ramp_epochs: f64,
}

/// The authors' floor of the probability of a wrong partner.
const ITM_FLOOR: f64 = 1e-4;

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
fn is_itm_floor(value: &f64) -> bool {
    *value == ITM_FLOOR
}

impl Default for Blip {
    fn default() -> Self {
        Self {
            task: Task::default(),
            dialect: Dialect::default(),
            itc: 1.0,
            itm: 1.0,
            itm_start_epoch: 0,
            itm_floor: ITM_FLOOR,
            lm: 1.0,
            vqa: None,
            texts_per_image: 1,
            label_smoothing: 0.1,
            dropout: 0.1,
            attention_dropout: None,
            drop_path: 0.0,
            max_words: 30,
            momentum: None,
            queue_size: 0,
            alpha: 0.4,
            alpha_ramp_epochs: 2.0,
        }
    }
}

impl Blip {
    /// What texts leave out.
    pub(crate) fn dropout_rates(&self) -> DropoutRates {
        dropout_rates(self.dropout, self.attention_dropout)
    }

    /// Weight of writing answers.
    pub fn vqa(&self) -> f64 {
        self.vqa.unwrap_or(if self.task == Task::Vqa { 1.0 } else { 0.0 })
    }

    /// Whether images and texts are compared.
    pub fn compares(&self) -> bool {
        matches!(self.task, Task::Pretrain | Task::Retrieval)
    }

    /// Whether questions are answered.
    pub fn answers(&self) -> bool {
        matches!(self.task, Task::Pretrain | Task::Vqa) && self.vqa() > 0.0
    }

    /// Whether captions are written.
    pub fn writes(&self) -> bool {
        matches!(self.task, Task::Pretrain | Task::Caption) && self.lm > 0.0
    }

    pub(super) fn check(&self, batch_size: usize) -> Result<(), String> {
        let weights = [
            ("itc", self.itc),
            ("itm", self.itm),
            ("itm_floor", self.itm_floor),
            ("lm", self.lm),
            ("vqa", self.vqa()),
        ];
        if let Some((name, weight)) = weights.into_iter().find(|(_, weight)| !(0.0..).contains(weight)) {
            return Err(format!("blip.{name} is {weight}; it has to be at least 0"));
        }
        share("blip.label_smoothing", self.label_smoothing)?;
        share("blip.dropout", self.dropout)?;
        share("blip.attention_dropout", self.attention_dropout.unwrap_or_default())?;
        share("blip.drop_path", self.drop_path)?;
        share("blip.momentum", self.momentum.unwrap_or(0.0))?;
        if !(0.0..=1.0).contains(&self.alpha) || !(0.0..).contains(&self.alpha_ramp_epochs) {
            return Err("blip.alpha has to be between 0 and 1, blip.alpha_ramp_epochs at least 0".into());
        }
        if self.texts_per_image == 0 || self.max_words == 0 {
            return Err("blip.texts_per_image and blip.max_words have to be at least 1".into());
        }
        match (self.momentum, self.queue_size) {
            (None, 1..) => {
                Err("blip.queue_size needs blip.momentum: the queue holds what the copies make".into())
            }
            (Some(_), size) if !size.is_multiple_of(batch_size) => Err(format!(
                "blip.queue_size is {size}; it has to be a multiple of the batch of {batch_size}"
            )),
            _ => Ok(()),
        }
    }

    /// Whether it is as if it were not there.
    pub(super) fn is_default(&self) -> bool {
        is_default(self)
    }
}
