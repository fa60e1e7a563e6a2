//! Contrastive losses of several processes that each hold a part of the batch, here as threads: losses and gradients
//! for every way of exchanging features.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;
use tuwen_nn::{Collective, ContrastiveLoss, PairLoss, Temperature, ThreadRank};
use tuwen_tensor::checkpoint::Checkpoint;
use tuwen_tensor::{Activation, Gradients, Tensor, ops};

use super::case::{Case, tensor};
use super::report::{Expected, Report};

#[derive(Deserialize)]
struct Config {
    ranks: usize,
    batch_per_rank: usize,
}

/// Ways of exchange: their names, and `local_loss` and `gather_with_grad` of a softmax. Those of a sigmoid differ in who
/// sends what to whom, and not in the result.
const MODES: [(&str, PairLoss, bool, bool); 8] = [
    ("clip_full_nograd", PairLoss::Softmax, false, false),
    ("clip_full_grad", PairLoss::Softmax, false, true),
    ("clip_local_grad", PairLoss::Softmax, true, true),
    ("clip_local_nograd", PairLoss::Softmax, true, false),
    ("siglip_bidir", PairLoss::Sigmoid, true, true),
    ("siglip_shift", PairLoss::Sigmoid, true, true),
    ("siglip_gather", PairLoss::Sigmoid, true, true),
    ("siglip_reduce", PairLoss::Sigmoid, true, true),
];

/// Parameters of the model of the case, in the order of [`Run::leaves`].
const PARAMETERS: [&str; 4] = ["w_image", "w_text", "logit_scale", "logit_bias"];

/// Whether a case is of this kind.
pub fn fits(case: &Case) -> Result<bool> {
    let inputs = case.tensors("inputs.safetensors")?;
    Ok(case.has("config.json")
        && ["x_image", "x_text", "w_image"]
            .iter()
            .all(|name| tuwen_tensor::checkpoint::TensorSource::info(&inputs, name).is_some()))
}

/// Computes and compares.
pub fn run(case: &Case) -> Result<Report> {
    let path = case.path("config.json");
    let config: Config =
        serde_json::from_value(case.json("config.json")?).with_context(|| path.display().to_string())?;
    let inputs = case.tensors("inputs.safetensors")?;
    let tolerance = case.tolerance()?;
    let mut expected = Expected::new(case.tensors("expected.safetensors")?);
    let mut report = Report::default();
    let mut check = |name: String, value: &Tensor| expected.check(&mut report, &name, value, tolerance);

    for (name, kind) in [("clip", PairLoss::Softmax), ("siglip", PairLoss::Sigmoid)] {
        let rows = 0..config.ranks * config.batch_per_rank;
        let single = Run::open(&inputs, rows)?.compute(&ContrastiveLoss::new(kind));
        if kind == PairLoss::Softmax {
            check("image_features".into(), &single.features[0])?;
            check("text_features".into(), &single.features[1])?;
        }
        check(format!("{name}.single.loss"), &single.loss)?;
        for (features, gradient) in ["image_features", "text_features"].iter().zip(&single.feature_gradients)
        {
            check(format!("{name}.single.{features}.grad"), gradient)?;
        }
        for (parameter, gradient) in PARAMETERS.iter().zip(&single.gradients) {
            if let Some(gradient) = gradient {
                check(format!("{name}.single.{parameter}.grad"), gradient)?;
            }
        }
    }
    for (mode, kind, local_loss, gather_with_grad) in MODES {
        let ranks = all_ranks(&config, &inputs, |collective| {
            ContrastiveLoss::distributed(kind, local_loss, gather_with_grad, collective)
        })?;
        let stack = |part: &dyn Fn(&Results) -> Tensor| {
            let parts: Vec<Tensor> = ranks.iter().map(part).collect();
            ops::concat(&parts.iter().collect::<Vec<_>>(), 0)
        };
        check(format!("{mode}.loss_per_rank"), &stack(&|rank| rank.loss.reshape(&[1])))?;
        for (side, name) in ["image_features", "text_features"].iter().enumerate() {
            let stacked = stack(&|rank| {
                let [rows, dim] = rank.feature_gradients[side].dims();
                rank.feature_gradients[side].reshape(&[1, rows, dim])
            });
            check(format!("{mode}.per_rank.{name}.grad"), &stacked)?;
        }
        for (i, parameter) in PARAMETERS.iter().enumerate() {
            let gradients: Option<Vec<&Tensor>> =
                ranks.iter().map(|rank| rank.gradients[i].as_ref()).collect();
            let Some(gradients) = gradients else { continue };
            let sum = gradients.into_iter().cloned().reduce(|a, b| ops::add(&a, &b));
            let sum = sum.ok_or_else(|| anyhow!("no ranks"))?;
            check(format!("{mode}.mean.{parameter}.grad"), &ops::scale(&sum, 1.0 / ranks.len() as f32))?;
        }
    }
    expected.finish(&mut report, tolerance);
    Ok(report)
}

/// Runs every rank on a thread of its own.
fn all_ranks(
    config: &Config,
    inputs: &Checkpoint,
    loss: impl Fn(Arc<dyn Collective>) -> ContrastiveLoss,
) -> Result<Vec<Results>> {
    let rows = |rank: usize| rank * config.batch_per_rank..(rank + 1) * config.batch_per_rank;
    let runs = (0..config.ranks).map(|rank| Run::open(inputs, rows(rank)));
    let runs: Vec<Run> = runs.collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = ThreadRank::group(config.ranks)
            .into_iter()
            .zip(&runs)
            .map(|(collective, run)| {
                let loss = loss(Arc::new(collective));
                scope.spawn(move || run.compute(&loss))
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Results>| {
            thread.join().map_err(|_| anyhow!("a rank panicked: this is a bug"))
        };
        threads.into_iter().map(join).collect()
    })
}

/// The model of the case, two linear maps to unit vectors, with the rows of a rank.
struct Run {
    x: [Tensor; 2],
    leaves: [Tensor; 4],
}

struct Results {
    loss: Tensor,
    features: [Tensor; 2],
    feature_gradients: [Tensor; 2],
    /// Of the parameters; none for what the loss does not use.
    gradients: [Option<Tensor>; 4],
}

impl Run {
    fn open(inputs: &Checkpoint, rows: std::ops::Range<usize>) -> Result<Self> {
        let part = |name: &str| Ok(ops::narrow(&tensor(inputs, name)?, 0, rows.start, rows.len()));
        let leaf = |name: &str| -> Result<Tensor> { Ok(tensor(inputs, name)?.leaf()) };
        let [w_image, w_text, logit_scale, logit_bias] = PARAMETERS.map(leaf);
        let x: [Result<Tensor>; 2] = ["x_image", "x_text"].map(part);
        let [x_image, x_text] = x;
        Ok(Self { x: [x_image?, x_text?], leaves: [w_image?, w_text?, logit_scale?, logit_bias?] })
    }

    fn compute(&self, loss: &ContrastiveLoss) -> Results {
        let linear = |x: &Tensor, weight: &Tensor| ops::linear(x, weight, None, Activation::Identity, None);
        let features = [0, 1].map(|side| ops::l2_normalize(&linear(&self.x[side], &self.leaves[side])));
        let [image, text] = features.each_ref().map(Tensor::detach).map(|x| x.leaf());
        let temperature =
            Temperature { scale: ops::exp(&self.leaves[2]), bias: Some(self.leaves[3].clone()) };
        let loss = loss.forward(&image, &text, &temperature, None);
        let value = loss.detach();
        let mut gradients = loss.backward();
        let of_features = [image, text].map(|leaf| of(&mut gradients, &leaf));
        let detached = features.each_ref().map(Tensor::detach);
        for (features, gradient) in features.into_iter().zip(&of_features) {
            gradients.accumulate(features.backward_from(gradient.clone()));
        }
        let gradients = self.leaves.each_ref().map(|leaf| gradients.take(leaf));
        Results { loss: value, features: detached, feature_gradients: of_features, gradients }
    }
}

/// The gradient of a leaf, zero where the loss does not depend on it.
fn of(gradients: &mut Gradients, leaf: &Tensor) -> Tensor {
    gradients.take(leaf).unwrap_or_else(|| Tensor::full(0.0, leaf.shape()))
}
