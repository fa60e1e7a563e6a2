//! ALBEF: contrast, matching and masked tokens with momentum copies and queues.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tuwen_models::TokenIds;
use tuwen_models::albef::weights::from_salesforce;
use tuwen_models::albef::{Albef, AlbefConfig};
use tuwen_nn::{Pass, Scope};
use tuwen_tensor::checkpoint::{TensorSource, open};
use tuwen_tensor::{Tensor, ops};
use tuwen_train::{AlbefSettings, FusedBatch, FusedPairs, Masked, Negatives, Optimizer, Settings};

use crate::case::{Tensors, close, raw};
use crate::golden::case;

struct Case {
    folder: PathBuf,
    fused: FusedPairs,
    pixel_values: Tensor,
    tokens: TokenIds,
    ids: Vec<u32>,
    steps: Value,
}

fn tensor(source: &dyn TensorSource, name: &str) -> Tensor {
    let raw = source.read(name).expect("a tensor");
    Tensor::new(&raw.to_f32(), &raw.shape)
}

fn integers(source: &dyn TensorSource, name: &str) -> Vec<i64> {
    source.read(name).expect("a tensor").to_i64().expect("integers")
}

/// The copies, under the names of what they follow, and the queues as rows.
fn copies(path: &Path, of_retrieval: bool) -> Tensors {
    let file = open(path).expect("a file of the case");
    let followed = |name: String| {
        let (part, rest) = name.split_once('.')?;
        Some((format!("{}.{rest}", part.strip_suffix("_m")?), raw(&tensor(&file, &name))))
    };
    let theirs: Tensors = file.names().into_iter().filter_map(followed).collect();
    let ours = from_salesforce(theirs).expect("tied");
    let mut all = Tensors::new();
    for name in ours.names() {
        if let Ok(tensor) = ours.read(&name) {
            all.insert(name, raw(&Tensor::new(&tensor.to_f32(), &tensor.shape)));
        }
    }
    for name in ["image_queue", "text_queue"] {
        all.insert(name.into(), raw(&ops::permute(&tensor(&file, name), &[1, 0])));
    }
    let pointer = integers(&file, "queue_ptr")[0];
    all.insert("queue_ptr".into(), raw(&Tensor::full(pointer as f32, &[])));
    if of_retrieval {
        let ids: Vec<f32> = integers(&file, "idx_queue").into_iter().map(|id| id as f32).collect();
        all.insert("idx_queue".into(), raw(&Tensor::new(&ids, &[ids.len()])));
    }
    all
}

impl Case {
    fn open(name: &str) -> Option<Self> {
        let folder = case(name)?;
        let read = |file: &str| fs::read_to_string(folder.join(file)).expect("a file of the case");
        let weights = open(&folder.join("model.pth")).expect("weights");
        let source: Arc<dyn TensorSource> = from_salesforce(weights).expect("tied").into();
        let config = AlbefConfig::from_state_dict(&source)
            .and_then(|config| config.with_bert_config(&read("config_bert.json")))
            .and_then(|config| config.with_arguments(&read("config.json")))
            .expect("sizes");
        let albef = Albef::new(&config, Scope::load_trainable(source)).expect("loads");
        let settings = AlbefSettings { momentum: 0.995, queue_size: 12, seed: 0 };
        let fused = FusedPairs::new(albef, &config, settings).expect("copies");
        let of_retrieval = name.contains("retrieval");
        for (name, value) in copies(&folder.join("model.pth"), of_retrieval) {
            let entry = fused.teacher().parameters().get(&format!("momentum.{name}")).expect(&name);
            entry.param.assign(&Tensor::new(&value.to_f32(), &value.shape));
        }
        let inputs = open(&folder.join("inputs.safetensors")).expect("inputs");
        let ids = integers(&inputs, "input_ids").into_iter().map(|id| id as u32).collect();
        let mask = integers(&inputs, "attention_mask").into_iter().map(|keep| keep != 0).collect();
        let length = inputs.info("input_ids").expect("ids").shape[1];
        let of_images = if of_retrieval { integers(&inputs, "idx") } else { vec![0, 1, 2, 3] };
        Some(Self {
            pixel_values: tensor(&inputs, "image"),
            tokens: TokenIds { ids, length, attention_mask: Some(mask) },
            ids: of_images.into_iter().map(|id| id as u32).collect(),
            steps: serde_json::from_str(&read("steps.json")).expect("JSON"),
            fused,
            folder,
        })
    }

    fn masked(&self, ids: &[i64], labels: &[i64]) -> Masked {
        let chosen = (0..).zip(labels).filter(|(_, label)| **label >= 0);
        let (places, hidden) = chosen.map(|(place, &label)| (place, label as u32)).unzip();
        let tokens = TokenIds { ids: ids.iter().map(|&id| id as u32).collect(), ..self.tokens.clone() };
        Masked { tokens, places, ids: hidden }
    }

    /// The losses with what the copies teach, which is enqueued.
    fn losses(&self, masked: Option<&Masked>, negatives: &Negatives) -> Vec<(&'static str, Tensor)> {
        let batch = FusedBatch {
            pixel_values: self.pixel_values.clone(),
            tokens: self.tokens.clone(),
            ids: self.ids.clone(),
            masked: masked.cloned(),
        };
        let taught = self.fused.teach(&batch).expect("there are copies");
        let draw = |_: &[Tensor; 2]| Some(negatives.clone());
        let losses = self.fused.losses(&batch, &taught, 0.4, draw, &Pass::train());
        self.fused.teacher().enqueue(&taught.keys, &self.ids);
        losses
    }

    fn check(&self, names: &[(&str, &str)], of_retrieval: bool) {
        let inputs = open(&self.folder.join("inputs.safetensors")).expect("inputs");
        let expected = open(&self.folder.join("expected.safetensors")).expect("expected");
        let masked = (!of_retrieval)
            .then(|| self.masked(&integers(&inputs, "mlm_input_ids"), &integers(&inputs, "mlm_labels")));
        let numbers = |name: &str| integers(&inputs, name).into_iter().map(|row| row as u32).collect();
        let negatives = Negatives {
            image_for_text: numbers("neg_image_for_text"),
            text_for_image: numbers("neg_text_for_image"),
        };
        let losses = self.losses(masked.as_ref(), &negatives);
        assert_eq!(losses.len(), names.len());
        for (name, reference) in names {
            let (_, loss) = losses.iter().find(|(loss, _)| loss == name).expect("a loss");
            let expected = tensor(&expected, reference).to_vec();
            close(name, &[loss.item()], &expected, |value| 3e-5 + 1e-4 * value.abs());
        }
        for (name, expected) in copies(&self.folder.join("after_forward.safetensors"), of_retrieval) {
            let entry = self.fused.teacher().parameters().get(&format!("momentum.{name}")).expect(&name);
            close(&name, &entry.param.value().to_vec(), &expected.to_f32(), |value| {
                3e-5 + 1e-4 * value.abs()
            });
        }
        let sum = losses.into_iter().map(|(_, loss)| loss).reduce(|a, b| ops::add(&a, &b)).expect("a loss");
        let mut gradients = sum.backward();
        let grads = open(&self.folder.join("grads.safetensors")).expect("gradients");
        let reference = from_salesforce(grads).expect("tied");
        let mut names = Vec::new();
        for entry in self.fused.albef().parameters().trainable() {
            let gradient = gradients.take(&entry.param.value());
            if reference.info(&entry.name).is_none() {
                assert!(gradient.is_none(), "the reference has no gradient of {}", entry.name);
                continue;
            }
            let expected = reference.read(&entry.name).expect("a gradient").to_f32().to_vec();
            let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let gradient = gradient.expect(&entry.name).to_vec();
            close(&entry.name, &gradient, &expected, |_| 3e-6 + 3e-4 * largest);
            names.push(entry.name.clone());
        }
        names.sort();
        assert_eq!(names, reference.names(), "the reference has these gradients and no others");
    }

    fn check_steps(&self) {
        let number = |name: &str| self.steps[name].as_f64().expect("a number");
        let settings = Settings {
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: number("weight_decay"),
            decays_all: true,
            grad_clip_norm: None,
        };
        let mut optimizer = Optimizer::new(self.fused.albef().parameters(), &[], settings);
        for (number_of_step, step) in self.steps["steps"].as_array().expect("steps").iter().enumerate() {
            let rows = |name: &str| -> Vec<i64> {
                let rows = step[name].as_array().map_or(&[][..], Vec::as_slice);
                let flat =
                    rows.iter().flat_map(|row| row.as_array().cloned().unwrap_or_else(|| vec![row.clone()]));
                flat.map(|value| value.as_i64().expect("an integer")).collect()
            };
            let numbers = |name: &str| rows(name).into_iter().map(|row| row as u32).collect();
            let negatives = Negatives {
                image_for_text: numbers("negative_image_for_text"),
                text_for_image: numbers("negative_text_for_image"),
            };
            let labels = rows("mlm_labels");
            let masked = (!labels.is_empty()).then(|| self.masked(&rows("mlm_input_ids"), &labels));
            let losses = self.losses(masked.as_ref(), &negatives);
            let sum =
                losses.into_iter().map(|(_, loss)| loss).reduce(|a, b| ops::add(&a, &b)).expect("a loss");
            let (got, expected) = (f64::from(sum.item()), step["total"].as_f64().expect("a loss"));
            assert!((got - expected).abs() <= 0.002 * expected, "step {number_of_step}: {got}, {expected}");
            optimizer.step(sum.backward(), number("lr"));
        }
    }
}

#[test]
fn pre_training() {
    const CASE: &str = "albef-sf-pretrain-tiny";
    let Some(case) = Case::open(CASE) else { return };
    case.check(&[("itc", "loss_ita"), ("itm", "loss_itm"), ("mlm", "loss_mlm")], false);
    Case::open(CASE).expect("there before").check_steps();
}

#[test]
fn retrieval() {
    const CASE: &str = "albef-sf-retrieval-tiny";
    let Some(case) = Case::open(CASE) else { return };
    case.check(&[("itc", "loss_ita"), ("itm", "loss_itm")], true);
    Case::open(CASE).expect("there before").check_steps();
}
