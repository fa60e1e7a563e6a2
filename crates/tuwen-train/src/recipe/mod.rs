//! The recipe: everything that decides a training run, in one TOML file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tuwen_data::augment::Augment;
use tuwen_data::dataset::{Access, DatasetSpec, is_remote};
use tuwen_data::files::read_text;
use tuwen_nn::Parameters;

use crate::{Schedule, Settings, TrainError};

mod albef;
mod blip;
mod changes;
mod classification;
mod distillation;
mod lock;
mod lora;
mod model;
mod optimizer;
pub(crate) mod output;
mod train;

pub use albef::{Albef, AlbefLearns};
pub use blip::{Blip, Dialect, Task};
pub(crate) use changes::differences;
pub use classification::{Classification, HeadInit, Objective};
pub use distillation::Distillation;
pub use lock::{Lock, LockedTower};
pub use lora::{AdaptedTower, Lora};
pub use model::{Model, Text, Tokenizer, Vision};
pub use optimizer::{Group, Optimizer};
pub use output::{Eval, EvalKind, Export, ExportType};
pub use train::{Loss, Train, TrainPrecision};

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
    /// The head and its loss, where the objective is classification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classification: Option<Classification>,
    /// What is learnt and how much it counts, where the objective is BLIP's.
    #[serde(default, skip_serializing_if = "Blip::is_default")]
    pub blip: Blip,
    /// What is learnt and how, where the objective is ALBEF's.
    #[serde(default, skip_serializing_if = "Albef::is_default")]
    pub albef: Albef,
    /// A model whose vectors of images and texts are learnt beside what the objective says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<Distillation>,
    /// AdamW and its schedule.
    pub optimizer: Optimizer,
    /// Learning-rate factors and freezing by parameter name; the first match decides.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Towers that stay as they are but for their last layers.
    #[serde(default, skip_serializing_if = "Lock::is_open")]
    pub lock: Lock,
    /// Low-rank adapters, which learn instead of the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// What is measured on the way.
    #[serde(default)]
    pub eval: Vec<Eval>,
    /// How models are written.
    #[serde(default)]
    pub export: Export,
    /// How stores are reached; set by the program, not by the file.
    #[serde(skip)]
    pub access: Access,
    /// The directory of the recipe file.
    #[serde(skip)]
    base: PathBuf,
}

impl Recipe {
    /// Reads a recipe and checks what can be checked without touching data or weights.
    ///
    /// # Errors
    /// One line that names the first thing wrong; for an unknown key, the known ones.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        /// A thousand times what a long one has.
        const LONGEST: u64 = 1 << 20;
        let text = read_text(path, LONGEST).map_err(TrainError::io(path))?;
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
        if self.data.is_empty() {
            return Err("no [[data]]: there is nothing to learn from".into());
        }
        self.model.check()?;
        self.tokenizer.check(self.train.objective)?;
        self.train.check()?;
        self.optimizer.check()?;
        self.classification.iter().try_for_each(Classification::check)?;
        self.lora.as_ref().map_or(Ok(()), |lora| lora.check(&self.model))?;
        self.export.check(self.lora.is_some(), &self.tokenizer)?;
        self.eval.iter().try_for_each(Eval::check)?;
        self.check_distillation()?;
        self.check_objective()
    }

    /// Only vectors of images and texts in one space can be learnt from others.
    fn check_distillation(&self) -> Result<(), String> {
        let Some(distillation) = &self.distillation else { return Ok(()) };
        positive("distillation.weight", distillation.weight)?;
        match self.train.objective {
            Objective::Contrastive => Ok(()),
            Objective::Blip if self.blip.compares() => Ok(()),
            _ => Err("[distillation] needs train.objective = \"contrastive\", or \"blip\" with the task \"pretrain\" or \
                      \"retrieval\""
                .into()),
        }
    }

    /// What belongs to classification only is refused elsewhere: it would be of no effect.
    fn check_objective(&self) -> Result<(), String> {
        if self.train.objective == Objective::Classification {
            return match (self.train.loss, self.export.adapter) {
                (Loss::Siglip, _) => Err("train.loss is for contrastive training".into()),
                (_, true) => Err("export.adapter would leave out the head of the classification".into()),
                (Loss::Clip, false) => Ok(()),
            };
        }
        let grounded = matches!(self.train.objective, Objective::Blip | Objective::Albef);
        if self.albef != Albef::default() && self.train.objective != Objective::Albef {
            return Err("[albef] needs train.objective = \"albef\"".into());
        }
        if self.blip != Blip::default() && self.train.objective != Objective::Blip {
            return Err("[blip] needs train.objective = \"blip\"".into());
        }
        if grounded {
            self.blip.check(self.train.batch_size)?;
            self.albef.check(self.train.batch_size)?;
            if self.lora.is_some() || self.model.adapter.is_some() {
                return Err("[lora] and model.adapter are for the networks of CLIP".into());
            }
        } else if let Some(eval) = self.eval.iter().find(|eval| eval.kind.is_of_blip()) {
            return Err(format!(
                "eval {:?}: this kind needs train.objective = \"blip\" or \"albef\"",
                eval.name()
            ));
        }
        let only = |what: &str| Err(format!("{what} needs train.objective = \"classification\""));
        if self.classification.is_some() {
            return only("[classification]");
        }
        if let Some(eval) = self.eval.iter().find(|eval| eval.kind == EvalKind::Classification) {
            return only(&format!("eval {:?}: kind = \"classification\"", eval.name()));
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

    /// A path of the recipe, relative to its file; the address of something in a store as it is.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        if is_remote(path) { path.to_owned() } else { self.base.join(path) }
    }

    /// What a model of the recipe is opened by: a built-in one by its name, others by their path.
    pub(crate) fn model_name(&self, path: &Path) -> String {
        match path.to_str() {
            Some(name) if tuwen::is_built_in(name) => name.to_owned(),
            _ => self.resolve(path).to_string_lossy().into_owned(),
        }
    }

    /// A data set of the recipe, ready to be opened.
    pub(crate) fn dataset(&self, spec: &DatasetSpec) -> DatasetSpec {
        let resolved = |path: &Option<PathBuf>| path.as_ref().map(|path| self.resolve(path));
        DatasetSpec {
            path: self.resolve(&spec.path),
            images: resolved(&spec.images),
            questions: resolved(&spec.questions),
            access: self.access.clone(),
            ..spec.clone()
        }
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
            decays_all: self.optimizer.decay_all.unwrap_or(false),
            grad_clip_norm: self.optimizer.grad_clip_norm,
        }
    }

    /// The learning rate over so many batches an epoch.
    pub fn schedule(&self, batches_per_epoch: u64) -> Schedule {
        let steps_per_epoch = batches_per_epoch / self.train.accumulate_steps;
        let steps = self.train.epochs * steps_per_epoch;
        Schedule {
            lr: self.optimizer.lr,
            warmup_steps: self.optimizer.warmup_steps,
            total_steps: self.train.max_steps.map_or(steps, |limit| limit.min(steps)),
            decay: self.optimizer.schedule,
            warmup_lr: self.optimizer.warmup_lr,
            min_lr: self.optimizer.min_lr.unwrap_or(0.0),
            decay_rate: self.optimizer.decay_rate.unwrap_or(1.0),
            steps_per_epoch,
            epochs: self.train.epochs,
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
                    !["log_every", "checkpoint_every", "threads", "cache_megabytes", "gradient_checkpointing"]
                        .contains(&key.as_str())
                });
            }
        }
        value
    }
}

/// What has to be above 0.
fn positive(name: &str, value: f64) -> Result<(), String> {
    if value > 0.0 { Ok(()) } else { Err(format!("{name} is {value}; it has to be above 0")) }
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

    /// A setting that came later is not among what a run is compared by, where it is as if it were not there: runs that began
    /// before go on. Who adds one skips its default, and leaves these lists as they are.
    #[test]
    fn later_settings_are_compared_where_they_are_set() {
        let keys = |section: Value| {
            let section = section.as_object().expect("a table").keys();
            section.cloned().collect::<Vec<String>>().join(" ")
        };
        let json = |value: Result<Value, serde_json::Error>| value.expect("JSON");
        let blip = "alpha alpha_ramp_epochs dialect dropout itc itm label_smoothing lm max_words momentum queue_size task \
                    texts_per_image vqa";
        assert_eq!(keys(json(serde_json::to_value(Blip::default()))), blip);
        let albef =
            "alpha alpha_ramp_epochs dropout fusion_layer max_words mlm_probability momentum queue_size task";
        assert_eq!(keys(json(serde_json::to_value(Albef::default()))), albef);

        let of_blip =
            RECIPE.replace("[train]", "[blip]\ntask = \"retrieval\"\n[train]\nobjective = \"blip\"");
        let with = |more: &str| {
            let text = of_blip.replace("[blip]", &format!("[blip]\n{more}"));
            parse(&text).unwrap_or_else(|error| panic!("{error:?}: {text}")).fingerprint()
        };
        let before = with("");
        assert_eq!(
            differences(&before, &with("itm_start_epoch = 0\nitm_floor = 1e-4")),
            Vec::<String>::new()
        );
        assert_eq!(differences(&before, &with("itm_start_epoch = 3")), ["blip.itm_start_epoch: null -> 3"]);
        assert_eq!(differences(&before, &with("itm_floor = 1.0")), ["blip.itm_floor: null -> 1.0"]);
    }
}
