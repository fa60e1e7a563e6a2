//! What a run measures on the way, and how it writes models.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tuwen_data::dataset::DatasetSpec;
use tuwen_tensor::checkpoint::StoredType;

use super::{Tokenizer, positive};

/// The sum of the losses with its sign changed: the greater, the better, as of all main metrics.
pub(crate) const NEGATIVE_LOSS: &str = "negative_loss";

/// What an evaluation measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvalKind {
    /// Recall between images and their captions.
    Retrieval,
    /// Accuracy of naming the class of an image.
    ZeroShot,
    /// Accuracy of the head that is learnt.
    Classification,
    /// The losses that are learnt by, on data that are not (BLIP).
    Loss,
    /// CIDEr and other metrics of captions that are written greedily (BLIP).
    Caption,
    /// Share of people who gave the answer that is written greedily (BLIP).
    Vqa,
    /// How often the caption of an image and one of another are told apart (BLIP).
    Matching,
    /// How often sentences about two images are judged rightly (BLIP for NLVR2).
    Nlvr2,
}

impl EvalKind {
    /// The metric by which the best model is chosen.
    pub fn main_metric(self) -> &'static str {
        match self {
            Self::Retrieval => "mean_recall",
            Self::ZeroShot | Self::Classification => "top1",
            Self::Loss => NEGATIVE_LOSS,
            Self::Caption => "cider_d",
            Self::Vqa | Self::Nlvr2 => "accuracy",
            Self::Matching => "itm_accuracy",
        }
    }

    /// Whether CLIP has no such evaluation.
    pub(super) fn is_of_blip(self) -> bool {
        matches!(self, Self::Loss | Self::Caption | Self::Vqa | Self::Matching | Self::Nlvr2)
    }
}

/// One evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    /// What is measured.
    pub kind: EvalKind,
    /// Its name in the log; that of the data file unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The data.
    pub path: PathBuf,
    /// The directory of the images that a JSON file names, where it is not that of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// The part of Karpathy's split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// VQA's file of questions, where `path` is that of the annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<PathBuf>,
    /// Only the first samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Epochs between two evaluations; the last epoch is always followed by one.
    #[serde(default = "default_every_epochs")]
    pub every_epochs: u64,
    /// Prompts of a class, `{}` standing for its name.
    #[serde(default = "default_templates")]
    pub templates: Vec<String>,
}

fn default_every_epochs() -> u64 {
    1
}

pub(super) fn default_templates() -> Vec<String> {
    vec!["a photo of a {}.".into()]
}

impl Eval {
    /// Its name in the log.
    pub fn name(&self) -> String {
        let stem = || self.path.file_stem().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned();
        self.name.clone().unwrap_or_else(stem)
    }

    /// The data, by paths relative to the recipe.
    pub(crate) fn dataset(&self) -> DatasetSpec {
        DatasetSpec {
            images: self.images.clone(),
            split: self.split.clone(),
            questions: self.questions.clone(),
            limit: self.limit,
            ..DatasetSpec::new(&self.path)
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        positive("eval.every_epochs", self.every_epochs as f64)?;
        if self.templates.is_empty() || self.templates.iter().any(|template| !template.contains("{}")) {
            return Err(format!("eval {:?}: templates need a {{}} for the name of the class", self.name()));
        }
        Ok(())
    }
}

/// Element type of exported weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportType {
    /// As they were trained.
    #[default]
    F32,
    /// Half precision.
    F16,
    /// Eight bits a value with one scale a row, matrices only; the rest in half precision. Only tuwen reads it.
    Int8,
}

impl From<ExportType> for StoredType {
    fn from(dtype: ExportType) -> Self {
        match dtype {
            ExportType::F32 => Self::F32,
            ExportType::F16 => Self::F16,
            ExportType::Int8 => Self::Int8,
        }
    }
}

/// How models are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// Element type of the weights.
    #[serde(default)]
    pub dtype: ExportType,
    /// Writes the low-rank adapter alone, in peft's layout, instead of a model that has it merged.
    #[serde(default)]
    pub adapter: bool,
}

impl Export {
    pub(super) fn check(&self, lora: bool, tokenizer: &Tokenizer) -> Result<(), String> {
        if !self.adapter {
            return Ok(());
        }
        if !lora {
            return Err("export.adapter needs [lora]: there is no adapter to write".into());
        }
        if self.dtype != ExportType::F32 {
            return Err("export.adapter: adapters are written in f32; leave dtype out".into());
        }
        if tokenizer != &Tokenizer::default() {
            return Err(
                "export.adapter: an adapter is used with the tokenizer of its base; leave [tokenizer] out"
                    .into(),
            );
        }
        Ok(())
    }
}
