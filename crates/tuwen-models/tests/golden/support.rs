//! A golden case: its inputs, what is expected, and a comparison that ticks off one result after another.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tuwen_models::TokenIds;
use tuwen_nn::Pass;
use tuwen_tensor::Tensor;
use tuwen_tensor::checkpoint::{Checkpoint, TensorSource, open};

use crate::golden::case;

/// Recorded inputs and results.
pub struct Golden {
    pub name: String,
    folder: PathBuf,
    inputs: Checkpoint,
    expected: Checkpoint,
    absolute: f32,
    relative: f32,
    left: RefCell<BTreeSet<String>>,
}

impl Golden {
    /// The case of a name, where the reference results are at hand.
    pub fn open(name: &str) -> Option<Self> {
        let folder = case(name)?;
        let meta: Value = serde_json::from_str(&read(&folder.join("meta.json"))).expect("JSON");
        let tolerance = |name: &str| meta["tolerance"][name].as_f64().unwrap_or(0.0) as f32;
        let expected = open(&folder.join("expected.safetensors")).expect("expected");
        Some(Self {
            name: name.to_owned(),
            inputs: open(&folder.join("inputs.safetensors")).expect("inputs"),
            left: RefCell::new(expected.names().into_iter().collect()),
            expected,
            absolute: tolerance("abs"),
            relative: tolerance("rel"),
            folder,
        })
    }

    /// The text of a file.
    pub fn text(&self, file: &str) -> String {
        read(&self.folder.join(file))
    }

    /// What is said about the case.
    pub fn meta(&self) -> Value {
        serde_json::from_str(&self.text("meta.json")).expect("JSON")
    }

    /// The weights.
    pub fn weights(&self, file: &str) -> Arc<Checkpoint> {
        Arc::new(open(&self.folder.join(file)).expect("weights"))
    }

    /// Another file with tensors.
    pub fn file(&self, file: &str) -> Checkpoint {
        open(&self.folder.join(file)).expect("a file of the case")
    }

    /// An input of numbers.
    pub fn input(&self, name: &str) -> Tensor {
        tensor(&self.inputs, name)
    }

    /// An input of integers.
    pub fn integers(&self, name: &str) -> Vec<i64> {
        integers(&self.inputs, name)
    }

    /// Rows of ids.
    pub fn tokens(&self, ids: &str, mask: Option<&str>) -> TokenIds {
        let shape = self.inputs.info(ids).expect("ids").shape;
        TokenIds {
            ids: self.integers(ids).into_iter().map(|id| id as u32).collect(),
            length: shape[1],
            attention_mask: mask.map(|mask| self.integers(mask).into_iter().map(|keep| keep != 0).collect()),
        }
    }

    /// A result of integers, which is ticked off.
    pub fn expected_integers(&self, name: &str) -> Vec<i64> {
        assert!(self.left.borrow_mut().remove(name), "{}: no {name}, or twice", self.name);
        integers(&self.expected, name)
    }

    /// A result of numbers, which is ticked off.
    pub fn expected(&self, name: &str) -> Tensor {
        assert!(self.left.borrow_mut().remove(name), "{}: no {name}, or twice", self.name);
        tensor(&self.expected, name)
    }

    /// Compares a result with the recorded one: `|got - expected| <= absolute + relative |expected|`.
    pub fn check(&self, name: &str, got: &Tensor) {
        let expected = self.expected(name);
        let what = format!("{}: {name}", self.name);
        let same = got.shape() == expected.shape() || (got.elements(), expected.elements()) == (1, 1);
        assert!(same, "{what}: got {:?}, expected {:?}", got.shape(), expected.shape());
        for (i, (got, expected)) in got.to_vec().iter().zip(expected.to_vec()).enumerate() {
            let off = (got - expected).abs();
            let allowed = self.absolute + self.relative * expected.abs();
            assert!(off <= allowed, "{what}[{i}]: got {got}, expected {expected}");
        }
    }

    /// Compares what a traced pass kept with what was recorded under the name that `rename` gives it.
    pub fn check_trace(&self, pass: Pass, rename: impl Fn(&str) -> String) {
        for (name, value) in pass.into_trace() {
            let name = rename(&name);
            if self.left.borrow().contains(&name) {
                self.check(&name, &value);
            }
        }
    }

    /// Fails if a result was not compared, but for those that `elsewhere` names by their beginnings.
    pub fn finish(self, elsewhere: &[&str]) {
        let left = self.left.into_inner();
        let open: Vec<&String> =
            left.iter().filter(|name| !elsewhere.iter().any(|start| name.starts_with(start))).collect();
        assert!(open.is_empty(), "{}: not compared: {open:?}", self.name);
    }
}

/// Names of a trace of the image encoder as the cases have them.
pub fn vision_names(name: &str) -> String {
    name.replace("vision.layers.", "vision.block.")
}

fn read(path: &std::path::Path) -> String {
    fs::read_to_string(path).expect("a file of the case")
}

fn tensor(source: &dyn TensorSource, name: &str) -> Tensor {
    let raw = source.read(name).expect("readable");
    Tensor::new(&raw.to_f32(), &raw.shape)
}

fn integers(source: &dyn TensorSource, name: &str) -> Vec<i64> {
    source.read(name).expect("readable").to_i64().expect("integers")
}

/// Mean cross entropy of the token after each, where `labels` `[batch, tokens]` are not negative, with a part of the
/// probability spread over all tokens.
pub fn next_token_losses(logits: &Tensor, labels: &[i64], smoothing: f64) -> Vec<Vec<f64>> {
    let [rows, length, vocabulary] = logits.dims();
    let values = logits.to_vec();
    let loss = |row: usize, at: usize| {
        let label = labels[row * length + at + 1];
        let logits = &values[(row * length + at) * vocabulary..][..vocabulary];
        (label >= 0).then(|| cross_entropy(logits, label as usize, smoothing))
    };
    (0..rows).map(|row| (0..length - 1).filter_map(|at| loss(row, at)).collect()).collect()
}

/// Cross entropy of a row of logits.
fn cross_entropy(logits: &[f32], label: usize, smoothing: f64) -> f64 {
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    let log = |logit: f32| f64::from(logit) - sum.ln();
    let mean: f64 = logits.iter().map(|&logit| log(logit)).sum::<f64>() / logits.len() as f64;
    -(1.0 - smoothing) * log(logits[label]) - smoothing * mean
}

/// The mean over all rows.
pub fn mean(losses: &[Vec<f64>]) -> Tensor {
    let all: Vec<f64> = losses.iter().flatten().copied().collect();
    Tensor::new(&[(all.iter().sum::<f64>() / all.len() as f64) as f32], &[])
}

/// Some of the rows.
pub fn select(tokens: &TokenIds, rows: &[u32]) -> TokenIds {
    let length = tokens.length;
    let mask = tokens.attention_mask.as_ref();
    let mask_of = |mask: &Vec<bool>| {
        rows.iter().flat_map(|&row| mask[row as usize * length..][..length].iter().copied()).collect()
    };
    TokenIds {
        ids: rows.iter().flat_map(|&row| tokens.row(row as usize).iter().copied()).collect(),
        length,
        attention_mask: mask.map(mask_of),
    }
}

/// Whether a written checkpoint has every weight of the one that was read, bit for bit, and no other.
pub fn assert_same_weights(name: &str, read: &dyn TensorSource, written: &dyn TensorSource) {
    let of_training = |name: &String| {
        let parts = ["_m.", "queue", "position_ids"];
        parts.iter().any(|part| name.contains(part))
    };
    let expected: Vec<String> = read.names().into_iter().filter(|name| !of_training(name)).collect();
    assert_eq!(written.names(), expected, "{name}");
    for tensor in expected {
        let (got, expected) = (written.read(&tensor).expect("written"), read.read(&tensor).expect("read"));
        assert_eq!((&got.shape, got.to_f32()), (&expected.shape, expected.to_f32()), "{name}: {tensor}");
    }
}
