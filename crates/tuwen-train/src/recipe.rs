//! The recipe: everything that decides a training run, in one TOML file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tuwen_data::augment::Augment;
use tuwen_data::dataset::DatasetSpec;
use tuwen_nn::Parameters;

use crate::schedule::Decay;
use crate::{Schedule, Settings, TrainError};

/// A training run. Paths are relative to the file that it was read from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Decides the initial weights, the order of the data and the augmentation.
    #[serde(default)]
    pub seed: u64,
    /// Directory for the log, checkpoints and exported models.
    pub output: PathBuf,
    /// The network.
    pub model: Model,
    /// How captions become token ids.
    #[serde(default)]
    pub tokenizer: Tokenizer,
    /// What is learnt from.
    pub data: Vec<DatasetSpec>,
    /// How training images are varied.
    #[serde(default)]
    pub augment: Augment,
    /// Length and rhythm of the run.
    pub train: Train,
    /// AdamW and its schedule.
    pub optimizer: Optimizer,
    /// Learning-rate factors and freezing by parameter name; the first match decides.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// What is measured on the way.
    #[serde(default)]
    pub eval: Vec<Eval>,
    /// How models are written.
    #[serde(default)]
    pub export: Export,
    /// The directory of the recipe file.
    #[serde(skip)]
    base: PathBuf,
}

/// The network: a preset, the sizes of its parts, or a checkpoint to start from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name of a published architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// A model directory whose weights the run starts from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<PathBuf>,
    /// Width of the joint space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projection_dim: Option<usize>,
    /// The image tower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<Vision>,
    /// The text tower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Text>,
}

/// Sizes of an image tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
#[allow(missing_docs)] // the fields of `VitConfig` and `ResNetConfig`
pub enum Vision {
    /// A vision transformer.
    Vit {
        hidden_size: usize,
        /// Four times `hidden_size` unless given.
        intermediate_size: Option<usize>,
        num_hidden_layers: usize,
        num_attention_heads: usize,
        image_size: usize,
        patch_size: usize,
    },
    /// A ModifiedResNet.
    ResNet { width: usize, layers: [usize; 4], num_attention_heads: Option<usize>, image_size: usize },
}

/// Sizes of a text tower; the vocabulary is that of the tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the fields of `TextConfig`
pub struct Text {
    pub hidden_size: usize,
    /// Four times `hidden_size` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<usize>,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub max_position_embeddings: usize,
}

/// How captions become token ids: CLIP's own vocabulary unless something else is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenizer {
    /// Learn a vocabulary of this size from the training captions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_vocab_size: Option<usize>,
    /// Read the tokenizer of a model directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
}

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
    /// Steps of the linear warm-up.
    #[serde(default)]
    pub warmup_steps: u64,
    /// What follows the warm-up.
    #[serde(default)]
    pub schedule: Decay,
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

/// What an evaluation measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvalKind {
    /// Recall between images and their captions.
    Retrieval,
    /// Accuracy of naming the class of an image.
    ZeroShot,
}

impl EvalKind {
    /// The metric by which the best model is chosen.
    pub fn main_metric(self) -> &'static str {
        match self {
            Self::Retrieval => "mean_recall",
            Self::ZeroShot => "top1",
        }
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

fn default_templates() -> Vec<String> {
    vec!["a photo of a {}.".into()]
}

impl Eval {
    /// Its name in the log.
    pub fn name(&self) -> String {
        let stem = || self.path.file_stem().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned();
        self.name.clone().unwrap_or_else(stem)
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

/// How models are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// Element type of the weights.
    #[serde(default)]
    pub dtype: ExportType,
}

impl Group {
    /// Whether the pattern fits a whole name.
    pub fn matches(&self, name: &str) -> bool {
        tuwen_tensor::checkpoint::fits(&self.pattern, name)
    }
}

impl Recipe {
    /// Reads a recipe and checks what can be checked without touching data or weights.
    ///
    /// # Errors
    /// One line that names the first thing wrong; for an unknown key, the known ones.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, base).map_err(|(line, message)| TrainError::Recipe {
            path: path.to_owned(),
            line,
            message,
        })
    }

    fn parse(text: &str, base: &Path) -> Result<Self, (Option<usize>, String)> {
        let mut recipe: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            (line, error.message().replace('\n', " "))
        })?;
        recipe.base = base.to_owned();
        recipe.check().map_err(|message| (None, message))?;
        Ok(recipe)
    }

    fn check(&self) -> Result<(), String> {
        let positive = |name: &str, value: f64| {
            if value > 0.0 { Ok(()) } else { Err(format!("{name} is {value}; it has to be above 0")) }
        };
        positive("train.batch_size", self.train.batch_size as f64)?;
        positive("train.epochs", self.train.epochs as f64)?;
        positive("train.checkpoint_every", self.train.checkpoint_every as f64)?;
        positive("train.log_every", self.train.log_every as f64)?;
        positive("train.threads", self.train.threads as f64)?;
        positive("optimizer.lr", self.optimizer.lr)?;
        if let Some(norm) = self.optimizer.grad_clip_norm {
            positive("optimizer.grad_clip_norm", norm)?;
        }
        if self.data.is_empty() {
            return Err("no [[data]]: there is nothing to learn from".into());
        }
        let model = &self.model;
        let sizes = model.vision.is_some() || model.text.is_some() || model.projection_dim.is_some();
        let ways = [model.preset.is_some(), model.init_from.is_some(), sizes];
        if ways.iter().filter(|&&way| way).count() != 1 {
            return Err(
                "[model] takes one of: preset, init_from, or vision with text and projection_dim".into()
            );
        }
        if sizes && (model.vision.is_none() || model.text.is_none() || model.projection_dim.is_none()) {
            return Err("[model] by sizes needs all of vision, text and projection_dim".into());
        }
        if self.tokenizer.from.is_some() && self.tokenizer.train_vocab_size.is_some() {
            return Err("[tokenizer] takes one of: from, train_vocab_size".into());
        }
        for eval in &self.eval {
            positive("eval.every_epochs", eval.every_epochs as f64)?;
            if eval.templates.is_empty() || eval.templates.iter().any(|template| !template.contains("{}")) {
                return Err(format!(
                    "eval {:?}: templates need a {{}} for the name of the class",
                    eval.name()
                ));
            }
        }
        Ok(())
    }

    /// Every pattern of a group has to match a parameter: one that does not is misspelt.
    pub(crate) fn check_groups(&self, parameters: &Parameters) -> Result<(), TrainError> {
        match self.groups.iter().find(|group| !parameters.iter().any(|entry| group.matches(&entry.name))) {
            Some(group) => Err(TrainError::UnusedGroup(group.pattern.clone())),
            None => Ok(()),
        }
    }

    /// A path of the recipe, relative to its file.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// The output directory.
    pub fn output(&self) -> PathBuf {
        self.resolve(&self.output)
    }

    /// Settings of the optimizer, with the paper's where the recipe has none.
    pub fn optimizer_settings(&self, resnet: bool) -> Settings {
        let (betas, eps) = if resnet { ([0.9, 0.999], 1e-8) } else { ([0.9, 0.98], 1e-6) };
        Settings {
            betas: self.optimizer.betas.unwrap_or(betas),
            eps: self.optimizer.eps.unwrap_or(eps),
            weight_decay: self.optimizer.weight_decay,
            grad_clip_norm: self.optimizer.grad_clip_norm,
        }
    }

    /// The learning rate over `steps_per_epoch` steps an epoch.
    pub fn schedule(&self, steps_per_epoch: u64) -> Schedule {
        let steps = self.train.epochs * steps_per_epoch;
        Schedule {
            lr: self.optimizer.lr,
            warmup_steps: self.optimizer.warmup_steps,
            total_steps: self.train.max_steps.map_or(steps, |limit| limit.min(steps)),
            decay: self.optimizer.schedule,
        }
    }

    /// Everything that decides the numbers of a run, to be compared on resuming. What is left out may change.
    pub(crate) fn fingerprint(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(recipe) = value.as_object_mut() {
            recipe.remove("output");
            recipe.remove("export");
            if let Some(train) = recipe.get_mut("train").and_then(Value::as_object_mut) {
                train.retain(|key, _| {
                    !["log_every", "checkpoint_every", "threads", "cache_megabytes"].contains(&key.as_str())
                });
            }
        }
        value
    }
}

/// `key: old -> new` for every difference between two recipes.
pub(crate) fn differences(old: &Value, new: &Value) -> Vec<String> {
    fn collect(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
        let enter = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match (old, new) {
            (Value::Object(a), Value::Object(b)) => {
                let added = b.keys().filter(|key| !a.contains_key(*key));
                for key in a.keys().chain(added) {
                    let [a, b] = [a, b].map(|object| object.get(key).unwrap_or(&Value::Null));
                    collect(&enter(key), a, b, found);
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (i, (a, b)) in a.iter().zip(b).enumerate() {
                    collect(&enter(&i.to_string()), a, b, found);
                }
            }
            _ if old != new => found.push(format!("{path}: {old} -> {new}")),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect("", old, new, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = r#"
output = "out"
[model]
projection_dim = 8
vision = { kind = "vit", hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, image_size = 16, patch_size = 8 }
text = { hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, max_position_embeddings = 8 }
[[data]]
path = "data.tar"
[train]
batch_size = 4
epochs = 2
[optimizer]
"#;

    fn parse(text: &str) -> Result<Recipe, (Option<usize>, String)> {
        Recipe::parse(text, Path::new("/recipes"))
    }

    #[test]
    fn a_short_recipe_has_the_papers_settings() {
        let recipe = parse(RECIPE).expect("valid");
        assert_eq!(recipe.output(), Path::new("/recipes/out"));
        let vit = recipe.optimizer_settings(false);
        assert_eq!((vit.betas, vit.eps, vit.weight_decay), ([0.9, 0.98], 1e-6, 0.2));
        let resnet = recipe.optimizer_settings(true);
        assert_eq!((resnet.betas, resnet.eps), ([0.9, 0.999], 1e-8));
        assert_eq!(recipe.schedule(10).total_steps, 20);
        let again: Recipe =
            serde_json::from_value(serde_json::to_value(&recipe).expect("json")).expect("read back");
        assert_eq!(again.fingerprint(), recipe.fingerprint());
    }

    #[test]
    fn an_unknown_key_is_one_line_with_the_known_ones() {
        let (line, message) = parse(&RECIPE.replace("epochs", "epoch")).expect_err("a misspelt key");
        assert_eq!(line, Some(11));
        assert!(
            message.contains("`epoch`") && message.contains("`epochs`") && !message.contains('\n'),
            "{message}"
        );
        let (_, message) = parse(&RECIPE.replace("patch_size", "patch")).expect_err("a misspelt key");
        assert!(message.contains("`patch`") && message.contains("`patch_size`"), "{message}");
    }

    #[test]
    fn contradictions_are_named() {
        let message = |text: &str| parse(text).expect_err("invalid").1;
        assert!(
            message(&RECIPE.replace("batch_size = 4", "batch_size = 0")).contains("train.batch_size is 0")
        );
        assert!(message(&RECIPE.replace("[model]", "[model]\npreset = \"x\"")).contains("takes one of"));
        assert!(message(&RECIPE.replace("projection_dim = 8", "")).contains("needs all of"));
    }

    #[test]
    fn stars_match_any_characters() {
        let matches = |pattern: &str, name: &str| {
            Group { pattern: pattern.into(), lr_scale: 1.0, freeze: false }.matches(name)
        };
        assert!(matches("vision_model.*", "vision_model.layer1.0.bn1.weight"));
        assert!(matches("*.bias", "a.b.bias") && matches("*", "") && matches("a*b*c", "a1b2c"));
        assert!(matches("logit_scale", "logit_scale") && matches("*a*", "bab") && matches("*ab", "abab"));
        assert!(
            !matches("vision", "vision_model") && !matches("*.bias", "bias_") && !matches("a*b*c", "acb")
        );
        assert!(!matches("ab*ba", "aba"));
    }

    #[test]
    fn changes_are_named_and_harmless_ones_are_not() {
        let old = parse(RECIPE).expect("valid");
        let harmless =
            RECIPE.replace("\"out\"", "\"elsewhere\"").replace("epochs = 2", "epochs = 2\nlog_every = 1");
        let new = parse(&harmless).expect("valid");
        assert_eq!(differences(&old.fingerprint(), &new.fingerprint()), Vec::<String>::new());
        let new = parse(&RECIPE.replace("epochs = 2", "epochs = 3")).expect("valid");
        assert_eq!(differences(&old.fingerprint(), &new.fingerprint()), ["train.epochs: 2 -> 3"]);
    }
}
