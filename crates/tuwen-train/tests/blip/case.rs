//! A golden case of training: network, inputs, gradients, and what each of its steps gives.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tuwen_data::tokenizer::BertTokenizer;
use tuwen_models::TokenIds;
use tuwen_models::blip::weights::Layout;
use tuwen_models::blip::{Blip, BlipConfig, BlipImageProcessor};
use tuwen_nn::{Pass, Scope};
use tuwen_tensor::Tensor;
use tuwen_tensor::checkpoint::{RawTensor, TensorSource, open};
use tuwen_train::{
    Grounded, GroundedBatch, GroundedPart, GroundedPreparation, Keys, Negatives, Objective, Optimizer, Place,
    Recipe, Settings,
};

use crate::golden::case;

pub struct Case {
    pub folder: PathBuf,
    pub grounded: Grounded,
    pub config: BlipConfig,
    pub steps: Value,
}

/// A recipe with this `[blip]`.
pub fn recipe(folder: &Path, blip: &str) -> Recipe {
    let text = format!(
        r#"
        output = "out"
        model = {{ init_from = "none" }}
        data = [{{ path = "none" }}]
        train = {{ objective = "blip", batch_size = 4, epochs = 1 }}
        optimizer = {{}}
        blip = {{ dropout = 0.0, {blip} }}
        "#
    );
    let path = folder.join("recipe.toml");
    fs::write(&path, text).expect("written");
    Recipe::read(&path).expect("a recipe")
}

impl Case {
    /// The case of a name, where the reference results are at hand, trained by this `[blip]`.
    pub fn open(name: &str, blip: &str) -> Option<Self> {
        let folder = case(name)?;
        let read = |file: &str| fs::read_to_string(folder.join(file)).expect("a file of the case");
        let weights = open(&folder.join("model.pth")).expect("weights");
        let source: Arc<dyn TensorSource> = Layout::Salesforce.import(weights).expect("tied").into();
        let config = BlipConfig::from_state_dict(&source)
            .and_then(|config| config.with_med_config(&read("med_config.json")))
            .and_then(|config| config.with_arguments(&read("config.json")))
            .expect("sizes");
        let network = Blip::new(&config, Scope::load_trainable(source)).expect("loads");
        let tokenizer = BertTokenizer::from_vocabulary_file(&folder.join("vocab.txt")).expect("a vocabulary");
        let processor = BlipImageProcessor::salesforce(config.vision.image_size);
        let preparation = GroundedPreparation::new(&config, tokenizer.for_blip(), processor, 30);
        let directory = tempfile::tempdir().expect("a directory");
        let recipe = recipe(directory.path(), blip);
        let grounded = Grounded::new(network, config.clone(), preparation, &recipe).expect("copies");
        let steps =
            fs::read(folder.join("steps.json")).map(|text| serde_json::from_slice(&text).expect("JSON"));
        Some(Self { grounded, config, steps: steps.unwrap_or_default(), folder })
    }

    pub fn file(&self, name: &str) -> impl TensorSource + 'static {
        open(&self.folder.join(name)).expect("a file of the case")
    }

    pub fn tensor(&self, file: &str, name: &str) -> Tensor {
        let raw = self.file(file).read(name).expect("a tensor").to_f32().to_vec();
        let shape = self.file(file).info(name).expect("a tensor").shape;
        Tensor::new(&raw, &shape)
    }

    pub fn integers(&self, name: &str) -> Vec<u32> {
        let raw = self.file("inputs.safetensors").read(name).expect("an input").to_i64().expect("integers");
        raw.into_iter().map(|value| value as u32).collect()
    }

    pub fn tokens(&self, ids: &str, mask: &str) -> TokenIds {
        let shape = self.file("inputs.safetensors").info(ids).expect("an input").shape;
        let mask = self.integers(mask).into_iter().map(|keep| keep != 0).collect();
        TokenIds { ids: self.integers(ids), length: shape[1], attention_mask: Some(mask) }
    }

    /// A batch of one part.
    pub fn batch(&self, part: GroundedPart) -> GroundedBatch {
        GroundedBatch { parts: vec![part], place: Place { epoch: 0, batch: 0, batches_per_epoch: 1 } }
    }

    pub fn images(&self) -> Tensor {
        self.tensor("inputs.safetensors", "image")
    }

    /// Compares each loss, and every gradient of their sum.
    pub fn check(
        &self,
        batch: &GroundedBatch,
        keys: Option<&Keys>,
        negatives: Option<&Negatives>,
        expected: &[(&str, &str)],
    ) {
        let losses = self.grounded.losses_of(batch, keys, negatives, &Pass::train());
        assert_eq!(losses.len(), expected.len());
        for (name, reference) in expected {
            let (_, loss) = losses.iter().find(|(loss, _)| loss == name).expect("a loss");
            let expected = self.tensor("expected.safetensors", reference).to_vec();
            close(name, &[loss.item()], &expected, |value| 3e-5 + 1e-4 * value.abs());
        }
        let sum = losses.into_iter().map(|(_, loss)| loss).reduce(|a, b| tuwen_tensor::ops::add(&a, &b));
        let mut gradients = sum.expect("a loss").backward();
        let reference = Layout::Salesforce.import(self.file("grads.safetensors")).expect("tied");
        let mut names = Vec::new();
        for entry in self.grounded.blip().parameters().trainable() {
            let Some(expected) = reference.info(&entry.name).map(|_| reference.read(&entry.name)) else {
                let gradient = gradients.take(&entry.param.value());
                assert!(gradient.is_none(), "the reference has no gradient of {}", entry.name);
                continue;
            };
            let expected = expected.expect("a gradient").to_f32().to_vec();
            let gradient = gradients.take(&entry.param.value()).expect(&entry.name).to_vec();
            let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            close(&entry.name, &gradient, &expected, |_| 3e-6 + 3e-4 * largest);
            names.push(entry.name.clone());
        }
        names.sort();
        assert_eq!(names, reference.names(), "the reference has these gradients and no others");
    }

    /// Ten steps; `before` each is told its record and gives what it is made with.
    pub fn check_steps(
        &self,
        batch: &GroundedBatch,
        mut before: impl FnMut(&Value) -> (Option<Keys>, Option<Negatives>),
        total: &str,
    ) {
        let number = |name: &str| self.steps[name].as_f64().expect("a number");
        let settings = Settings {
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: number("weight_decay"),
            decays_all: true,
            grad_clip_norm: None,
        };
        let mut optimizer = Optimizer::new(self.grounded.blip().parameters(), &[], settings);
        let steps = [&self.steps["steps"], &self.steps["losses"]].into_iter().find_map(Value::as_array);
        for (number_of_step, step) in steps.expect("steps").iter().enumerate() {
            let (keys, negatives) = before(step);
            let losses = self.grounded.losses_of(batch, keys.as_ref(), negatives.as_ref(), &Pass::train());
            let sum = losses.into_iter().map(|(_, loss)| loss).reduce(|a, b| tuwen_tensor::ops::add(&a, &b));
            let sum = sum.expect("a loss");
            let expected = step.as_f64().or_else(|| step[total].as_f64()).expect("a loss");
            let got = f64::from(sum.item());
            assert!((got - expected).abs() <= 0.002 * expected, "step {number_of_step}: {got}, {expected}");
            if let (Some(keys), Some(teacher)) = (&keys, self.grounded.teacher()) {
                let ids = batch.parts.iter().flat_map(|part| &part.pairs).flat_map(|pairs| pairs.ids.clone());
                teacher.enqueue(keys, &ids.collect::<Vec<_>>());
            }
            optimizer.step(sum.backward(), number("lr"));
            self.grounded.after_step();
        }
    }
}

pub fn close(name: &str, got: &[f32], expected: &[f32], tolerance: impl Fn(f32) -> f32) {
    assert_eq!(got.len(), expected.len(), "{name}");
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let off = (got - expected).abs();
        assert!(off <= tolerance(expected), "{name}[{i}]: got {got}, expected {expected}, off by {off}");
    }
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, RawTensor<'static>>;

pub fn raw(tensor: &Tensor) -> RawTensor<'static> {
    RawTensor::from_f32(tensor.shape(), &tensor.to_vec())
}
