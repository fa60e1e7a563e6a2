//! Training: the loss, every gradient, and steps of the optimizer with what they leave behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tuwen_models::clip::weights::{from_open_clip, to_custom_text, to_open_clip};
use tuwen_models::clip::{Clip, ClipConfig, TokenIds};
use tuwen_nn::{ContrastiveLoss, Pass, Scope};
use tuwen_tensor::Tensor;
use tuwen_tensor::checkpoint::{Checkpoint, RawTensor, TensorSource};
use tuwen_train::{Optimizer, Schedule, Settings};

use super::case::{Case, tensor, token_ids};
use super::forward::loss_of;
use super::report::{Expected, Report, Tolerance};

const CONFIG: &str = "open_clip_config.json";
const WEIGHTS: &str = "open_clip_model.safetensors";

/// Steps of the reference.
#[derive(Deserialize)]
struct Steps {
    hyper_parameters: HyperParameters,
    steps: Vec<Step>,
    loss_after_last_step: f64,
    loss_after_last_step_float64: f64,
}

#[derive(Deserialize)]
struct HyperParameters {
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    warmup: u64,
    total_steps: u64,
}

#[derive(Deserialize)]
struct Step {
    lr: f64,
    loss: f64,
    loss_float64: f64,
    grad_norm: f64,
    logit_scale: f64,
}

/// Whether a case trains a CLIP model.
pub fn fits(case: &Case) -> Result<bool> {
    Ok([CONFIG, WEIGHTS, "steps.json", "grads.safetensors"].iter().all(|file| case.has(file)))
}

fn config(case: &Case) -> Result<ClipConfig> {
    let path = case.path(CONFIG);
    ClipConfig::from_open_clip_json(&case.text(CONFIG)?).with_context(|| path.display().to_string())
}

/// Computes and compares.
pub fn run(case: &Case) -> Result<Report> {
    let steps: Steps = serde_json::from_value(case.json("steps.json")?)
        .with_context(|| case.path("steps.json").display().to_string())?;
    let loss_tolerance = Tolerance::abs(case.tolerance_of("loss_abs")?);
    let mut report = Report::default();
    let mut expected = Expected::new(case.tensors("expected.safetensors")?);
    gradients(case, &mut report, &mut expected, loss_tolerance)?;
    optimizer_steps(case, &steps, &mut report, &mut expected)?;
    expected.finish(&mut report, loss_tolerance);
    Ok(report)
}

/// The network with its batch.
struct Run {
    clip: Clip,
    loss: ContrastiveLoss,
    pixel_values: Tensor,
    tokens: TokenIds,
}

impl Run {
    fn open(case: &Case) -> Result<Self> {
        let config = config(case)?;
        let path = case.path(WEIGHTS);
        let weights = Arc::new(from_open_clip(case.tensors(WEIGHTS)?));
        let load = |report| tuwen::Error::Load { path, misfit: None, report: Box::new(report) };
        let clip = Clip::new(&config, Scope::load_trainable(weights)).map_err(load)?;
        let inputs = case.tensors("inputs.safetensors")?;
        let tokens = token_ids(&inputs, "text", None, config.text.vocab_size)?;
        let loss = ContrastiveLoss::new(loss_of(&config));
        Ok(Self { clip, loss, pixel_values: tensor(&inputs, "image")?, tokens })
    }

    /// Features of unit length and the loss.
    fn forward(&self) -> [Tensor; 3] {
        let pass = Pass::train();
        let image = self.clip.embed_image(&self.pixel_values, &pass);
        let text = self.clip.embed_text(&self.tokens, &pass);
        let loss = self.loss.forward(&image, &text, &self.clip.temperature(), None);
        [image, text, loss]
    }
}

fn gradients(
    case: &Case,
    report: &mut Report,
    expected: &mut Expected<Checkpoint>,
    tolerance: Tolerance,
) -> Result<()> {
    let run = Run::open(case)?;
    let [image, text, loss] = run.forward();
    // Features have no tolerance of their own.
    expected.check(report, "image_features", &image, tolerance)?;
    expected.check(report, "text_features", &text, tolerance)?;
    expected.check(report, "loss", &loss, tolerance)?;
    let mut gradients = loss.backward();
    let gradient = |entry: &tuwen_nn::Entry| {
        let gradient = gradients.take(&entry.param.value())?;
        Some((entry.name.clone(), RawTensor::from_f32(gradient.shape(), &gradient.to_vec())))
    };
    let ours: BTreeMap<_, _> = run.clip.parameters().trainable().filter_map(gradient).collect();
    let ours = named_as(&case.tensors(WEIGHTS)?, ours);
    let recorded = case.tensors("grads.safetensors")?;
    for name in names_of_both(&recorded, &ours) {
        let label = format!("grads.{name}");
        if ours.info(&name).is_none() || recorded.info(&name).is_none() {
            let note = if recorded.info(&name).is_none() { "not recorded" } else { "not computed" };
            report.fail(&label, Tolerance::EXACT, note);
            continue;
        }
        let expected = recorded.read(&name)?;
        let largest = expected.to_f32().iter().fold(0.0_f64, |max, &g| max.max(f64::from(g).abs()));
        let tolerance = Tolerance::abs(2e-6 + 2e-4 * largest);
        report.compare(&label, ours.read(&name)?.into_owned(), &expected, tolerance);
    }
    Ok(())
}

fn optimizer_steps(
    case: &Case,
    steps: &Steps,
    report: &mut Report,
    expected: &mut Expected<Checkpoint>,
) -> Result<()> {
    let run = Run::open(case)?;
    let HyperParameters { lr, betas, eps, weight_decay, warmup, total_steps } = steps.hyper_parameters;
    let settings = Settings { betas, eps, weight_decay, decays_all: false, grad_clip_norm: None };
    let schedule = Schedule { lr, warmup_steps: warmup, total_steps, ..Schedule::default() };
    let mut optimizer = Optimizer::new(run.clip.parameters(), &[], settings);
    let logit_scale = || run.clip.parameters().get("logit_scale").map(|entry| entry.param.value().item());
    for (i, step) in steps.steps.iter().enumerate() {
        let mut compare = |what: &str, got: f64, expected: f64, tolerance: f64| {
            report.number(&format!("steps.{i}.{what}"), got, expected, tolerance);
        };
        let lr = schedule.at(optimizer.steps());
        compare("lr", lr, step.lr, 1e-15);
        let [.., loss] = run.forward();
        compare("loss", f64::from(loss.item()), step.loss, loss_tolerance(step.loss, step.loss_float64));
        let norm = optimizer.step(loss.backward(), lr);
        compare("grad_norm", norm, step.grad_norm, 1e-3 * step.grad_norm);
        run.clip.clamp_logit_scale();
        compare("logit_scale", f64::from(logit_scale().unwrap_or(f32::NAN)), step.logit_scale, 2e-6);
    }
    let [.., loss] = run.forward();
    let (last, float64) = (steps.loss_after_last_step, steps.loss_after_last_step_float64);
    report.number("steps.loss_after_last_step", f64::from(loss.item()), last, loss_tolerance(last, float64));
    let passes = steps.steps.len() + 1;
    final_weights(case, &run.clip, passes, report, expected)
}

/// "about three times |loss - loss_float64| + 1e-3 * loss + 2e-5"
fn loss_tolerance(loss: f64, float64: f64) -> f64 {
    3.0 * (loss - float64).abs() + 1e-3 * loss + 2e-5
}

/// Small parameters and running statistics at the end.
fn final_weights(
    case: &Case,
    clip: &Clip,
    passes: usize,
    report: &mut Report,
    expected: &mut Expected<Checkpoint>,
) -> Result<()> {
    let tolerance = Tolerance::abs(final_tolerance(case));
    let (weights, recorded) = (case.tensors(WEIGHTS)?, case.tensors("final_small.safetensors")?);
    let ours = named_as(&weights, clip.parameters().clone());
    for name in recorded.names() {
        let label = format!("final.{name}");
        let expected = recorded.read(&name)?;
        // Batch norms of the reference count forward passes, for a kind of average that CLIP does not use.
        if name.ends_with("num_batches_tracked") {
            let start = weights.read(&name)?.to_f32().first().copied().unwrap_or(f32::NAN);
            let got = RawTensor::from_f32(&[], &[start + passes as f32]);
            report.compare(&label, got, &expected, Tolerance::EXACT);
            continue;
        }
        if ours.info(&name).is_none() {
            report.fail(&label, tolerance, "not computed");
            continue;
        }
        let third = expected.shape.first().map_or(0, |rows| rows / 3);
        // Attention does not depend on a bias of its keys: its gradient is rounding noise, which AdamW turns into steps.
        let is_noise = |i: usize| {
            (name.ends_with("in_proj_bias") && (third..2 * third).contains(&i))
                || name.ends_with("k_proj.bias")
        };
        report.compare_some(&label, ours.read(&name)?.into_owned(), &expected, tolerance, |i| !is_noise(i));
    }
    // Recorded as after the first forward pass, but stored as they were at the end.
    for name in ours.names() {
        let label = format!("after.{name}");
        if expected.wants(&label) {
            let raw = ours.read(&name)?;
            expected.check(report, &label, &Tensor::new(&raw.to_f32(), &raw.shape), tolerance)?;
        }
    }
    Ok(())
}

/// What rounding alone does to the final weights: three times the largest difference between f32 and f64 that the case
/// notes, unless that is the noise of a key bias.
fn final_tolerance(case: &Case) -> f64 {
    const UNLESS_NOTED: f64 = 1e-4;
    let noted =
        case.meta.get("final_small_largest_difference_float32_float64").and_then(|noted| noted.as_object());
    let largest = noted.into_iter().flatten().filter(|(name, _)| !name.ends_with("in_proj_bias"));
    let largest = largest.filter_map(|(_, value)| value.as_f64()).reduce(f64::max);
    largest.map_or(UNLESS_NOTED, |largest| 3.0 * largest)
}

/// Our tensors under the names of a checkpoint of open_clip, which has two ways to call the text tower.
fn named_as<S: TensorSource + 'static>(checkpoint: &Checkpoint, ours: S) -> Box<dyn TensorSource> {
    if checkpoint.info("text.text_projection").is_some() {
        Box::new(to_custom_text(ours))
    } else {
        Box::new(to_open_clip(ours))
    }
}

fn names_of_both(a: &dyn TensorSource, b: &dyn TensorSource) -> Vec<String> {
    let mut names = a.names();
    names.extend(b.names());
    names.sort();
    names.dedup();
    names
}
