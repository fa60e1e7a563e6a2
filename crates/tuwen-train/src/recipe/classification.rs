//! Fine-tuning of the image tower for naming classes.

use serde::{Deserialize, Serialize};
use tuwen::ImageFeatures;

use super::output::default_templates;
use super::train::share;

/// What is learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// Images and their captions find each other.
    #[default]
    Contrastive,
    /// The image tower and a linear head name the class of an image.
    Classification,
    /// What `[blip]` says: images and texts find each other, captions and answers are written.
    Blip,
    /// What `[albef]` says: images and texts find each other, masked tokens are predicted.
    Albef,
}

/// How the head begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadInit {
    /// With zeros: every class as likely as any other.
    #[default]
    Zeros,
    /// With the vectors of the classes' prompts times the model's factor: the run begins at the zero-shot accuracy
    /// (WiSE-FT, arXiv 2109.01903).
    ZeroShot,
}

/// The head and its loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classification {
    /// How the head begins.
    #[serde(default)]
    pub head_init: HeadInit,
    /// What the head looks at.
    #[serde(default)]
    pub features: ImageFeatures,
    /// The part of a target that is shared among all classes (arXiv 1512.00567).
    #[serde(default)]
    pub label_smoothing: f64,
    /// Prompts of a class for `head_init = "zero_shot"`, `{}` standing for its name.
    #[serde(default = "default_templates")]
    pub templates: Vec<String>,
    /// The classes in the order of the head's rows; those of the data unless given, which are then read once before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
}

impl Default for Classification {
    fn default() -> Self {
        Self {
            head_init: HeadInit::default(),
            features: ImageFeatures::default(),
            label_smoothing: 0.0,
            templates: default_templates(),
            classes: Vec::new(),
        }
    }
}

impl Classification {
    pub(super) fn check(&self) -> Result<(), String> {
        share("classification.label_smoothing", self.label_smoothing)?;
        if self.templates.is_empty() || self.templates.iter().any(|template| !template.contains("{}")) {
            return Err("classification.templates need a {} for the name of the class".into());
        }
        if self.head_init == HeadInit::ZeroShot && self.features != ImageFeatures::Normalized {
            let got = self.features;
            return Err(format!("head_init = \"zero_shot\" needs features = \"normalized\", got {got:?}"));
        }
        match (1..self.classes.len()).find(|&i| self.classes[..i].contains(&self.classes[i])) {
            Some(i) => Err(format!("classification.classes name {:?} twice", self.classes[i])),
            None if self.classes.len() == 1 => Err("classification.classes are one; it takes two".into()),
            None => Ok(()),
        }
    }
}
