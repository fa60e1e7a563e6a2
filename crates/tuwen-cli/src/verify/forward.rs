//! A forward pass: every named intermediate, features, logits and the loss, for every way of running that is recorded.

use anyhow::{Context as _, Result, bail};
use tuwen::{ModelFiles, Options};
use tuwen_models::clip::{Clip, ClipConfig, TokenIds};
use tuwen_nn::{ContrastiveLoss, PairLoss, Pass, Scope};
use tuwen_tensor::checkpoint::{Checkpoint, TensorSource, weight_files_in};
use tuwen_tensor::{Tensor, ops};

use super::case::{Case, tensor, token_ids};
use super::report::{Expected, Report, Tolerance};

/// Weights of openai/CLIP, which have no usual name: a state dict and a TorchScript archive.
const OPENAI_FILES: [&str; 2] = ["state_dict.pt", "model.pt"];
/// A second configuration of the same weights, with the end token of old files.
const LEGACY_CONFIG: &str = "config_legacy_eos2.json";

/// Whether a case is a forward pass of a CLIP model.
pub fn fits(case: &Case) -> Result<bool> {
    let inputs = case.tensors("inputs.safetensors")?;
    let has = |names: [&str; 2]| names.iter().any(|name| inputs.info(name).is_some());
    if case.has("steps.json") || !has(["image", "pixel_values"]) || !has(["text", "input_ids"]) {
        return Ok(false);
    }
    if case.has("open_clip_config.json") {
        let config = ClipConfig::from_open_clip_json(&case.text("open_clip_config.json")?);
        return Ok(config.is_ok());
    }
    if !case.has("config.json") {
        return Ok(false);
    }
    let config = case.json("config.json")?;
    // Of transformers, or the arguments of openai/CLIP's constructor.
    Ok(config.get("model_type").is_some_and(|name| name == "clip") || config.get("vision_layers").is_some())
}

/// Computes and compares.
pub fn run(case: &Case) -> Result<Report> {
    let tolerance = case.tolerance()?;
    let inputs = case.tensors("inputs.safetensors")?;
    let mut comparison = Comparison {
        report: Report::default(),
        expected: Expected::new(case.tensors("expected.safetensors")?),
        tolerance,
    };
    let paths = weight_paths(case)?;
    let (first, others) = paths.split_first().context("no weights")?;
    let files = open_model(first, None)?;
    for other in others {
        same_weights(&files, &open_model(other, None)?, &mut comparison.report)?;
    }
    let clip = load(&files, &files.config)?;
    let [images, texts] =
        if inputs.info("pixel_values").is_some() { ["pixel_values", "input_ids"] } else { ["image", "text"] };
    let vocab_size = files.config.text.vocab_size;
    let tokens = |name: &str, mask: Option<&str>| token_ids(&inputs, name, mask, vocab_size);
    let pixel_values = square_images(tensor(&inputs, images)?, files.config.vision.image_size())?;

    let pass = Pass::traced();
    let image = clip.embed_image(&pixel_values, &pass);
    comparison.add_trace("", pass)?;
    let text = comparison.texts("", &clip, &tokens(texts, None)?, &image)?;
    let pairs = image.shape()[0].min(text.shape()[0]);
    let first = |rows: &Tensor| ops::narrow(rows, 0, 0, pairs);
    let loss = ContrastiveLoss::new(loss_of(&files.config));
    comparison.add("loss", &loss.forward(&first(&image), &first(&text), &clip.temperature(), None))?;

    if inputs.info("attention_mask").is_some() {
        comparison.texts("masked.", &clip, &tokens(texts, Some("attention_mask"))?, &image)?;
    }
    let extra = inputs.info("input_ids_extra").is_some();
    let extra = extra.then(|| tokens("input_ids_extra", Some("attention_mask_extra"))).transpose()?;
    if let Some(extra) = &extra {
        comparison.texts("extra.", &clip, extra, &image)?;
    }
    if case.has(LEGACY_CONFIG) {
        let config = ClipConfig::from_hf_json(&case.text(LEGACY_CONFIG)?)
            .with_context(|| case.path(LEGACY_CONFIG).display().to_string())?;
        let legacy = load(&files, &config)?;
        comparison.texts("eos2.", &legacy, &tokens(texts, None)?, &image)?;
        if let Some(extra) = &extra {
            comparison.texts("extra_eos2.", &legacy, extra, &image)?;
        }
    }
    for (prefix, name) in [("big.", "pixel_values_big"), ("resized.", "image_resized")] {
        if inputs.info(name).is_some() {
            comparison.resized(prefix, &paths[0], &inputs, name)?;
        }
    }
    let Comparison { mut report, expected, tolerance } = comparison;
    expected.finish(&mut report, tolerance);
    Ok(report)
}

/// The loss that a network was made for: only SigLIP's has a bias.
pub fn loss_of(config: &ClipConfig) -> PairLoss {
    if config.logit_bias_init_value.is_some() { PairLoss::Sigmoid } else { PairLoss::Softmax }
}

struct Comparison {
    report: Report,
    expected: Expected<Checkpoint>,
    tolerance: Tolerance,
}

impl Comparison {
    fn add(&mut self, name: &str, value: &Tensor) -> Result<()> {
        self.expected.check(&mut self.report, name, value, self.tolerance)
    }

    fn add_trace(&mut self, prefix: &str, pass: Pass) -> Result<()> {
        for (name, value) in pass.into_trace() {
            let name = format!("{prefix}{}", recorded_name(&name, &self.expected, prefix));
            self.add(&name, &value)?;
        }
        Ok(())
    }

    /// Runs texts through the network and compares them with images of unit length.
    fn texts(&mut self, prefix: &str, clip: &Clip, tokens: &TokenIds, image: &Tensor) -> Result<Tensor> {
        let pass = Pass::traced();
        let text = clip.embed_text(tokens, &pass);
        self.add_trace(prefix, pass)?;
        let logits = clip.logits_per_image(image, &text);
        self.add(&format!("{prefix}logits_per_image"), &logits)?;
        self.add(&format!("{prefix}logits_per_text"), &ops::permute(&logits, &[1, 0]))?;
        Ok(text)
    }

    /// Runs larger images, for which positions are interpolated.
    fn resized(&mut self, prefix: &str, model: &str, inputs: &Checkpoint, name: &str) -> Result<()> {
        let pixel_values = tensor(inputs, name)?;
        let size = pixel_values.last_dim();
        let files = open_model(model, Some(size))?;
        let positions = tensor(files.weights.as_ref(), "vision_model.embeddings.position_embedding.weight")?;
        self.add(&format!("{prefix}positional_embedding"), &positions)?;
        let pass = Pass::traced();
        load(&files, &files.config)?.embed_image(&square_images(pixel_values, size)?, &pass);
        let trace = pass.into_trace();
        let last = trace.iter().rev().find(|(name, _)| name.starts_with("vision.layers."));
        if let Some((_, last)) = last {
            self.add(&format!("{prefix}vision.last_hidden"), last)?;
        }
        for (name, value) in &trace {
            self.add(&format!("{prefix}{name}"), value)?;
        }
        Ok(())
    }
}

/// What the reference calls an intermediate.
fn recorded_name(ours: &str, expected: &Expected<Checkpoint>, prefix: &str) -> String {
    const NAMES: [(&str, &[&str]); 5] = [
        ("vision.patch_embedding", &["vision.patch_conv", "vision.conv1"]),
        ("vision.pre_layernorm", &["vision.pre_ln"]),
        ("vision.post_layernorm", &["vision.ln_post"]),
        ("text.final_layer_norm", &["text.final_ln"]),
        ("text.embeddings", &["text.embeddings"]),
    ];
    if let Some((_, names)) = NAMES.iter().find(|(name, _)| *name == ours) {
        let wanted = names.iter().find(|name| expected.wants(&format!("{prefix}{name}")));
        return wanted.unwrap_or(&names[0]).to_string();
    }
    ours.replace(".layers.", ".block.")
}

/// The weight files of a case, the one to run first.
fn weight_paths(case: &Case) -> Result<Vec<String>> {
    let usual = weight_files_in(&case.folder);
    let paths = match usual {
        Ok(paths) => paths,
        Err(error) => {
            let paths: Vec<_> =
                OPENAI_FILES.map(|name| case.path(name)).into_iter().filter(|path| path.exists()).collect();
            if paths.is_empty() {
                return Err(error.into());
            }
            paths
        }
    };
    Ok(paths.into_iter().map(|path| path.to_string_lossy().into_owned()).collect())
}

fn open_model(path: &str, image_size: Option<usize>) -> Result<ModelFiles> {
    Ok(ModelFiles::open(path, &Options { image_size, ..Options::default() })?)
}

fn load(files: &ModelFiles, config: &ClipConfig) -> Result<Clip> {
    let load = |report| tuwen::Error::Load {
        path: files.weights_path.clone(),
        misfit: None,
        report: Box::new(report),
    };
    Ok(Clip::new(config, Scope::load(files.weights.clone())).map_err(load)?)
}

fn square_images(images: Tensor, size: usize) -> Result<Tensor> {
    match images.shape() {
        &[_, 3, height, width] if (height, width) == (size, size) => Ok(images),
        other => bail!("images have shape {other:?}, the network takes [batch, 3, {size}, {size}]"),
    }
}

/// Notes how many tensors differ between two files of the same weights.
fn same_weights(ours: &ModelFiles, other: &ModelFiles, report: &mut Report) -> Result<()> {
    let mut names = ours.weights.names();
    names.extend(other.weights.names());
    names.sort();
    names.dedup();
    let mut different = Vec::new();
    for name in names {
        let same = match (ours.weights.info(&name), other.weights.info(&name)) {
            (Some(a), Some(b)) => {
                a.shape == b.shape
                    && ours.weights.read(&name)?.to_f32() == other.weights.read(&name)?.to_f32()
            }
            _ => false,
        };
        if !same {
            different.push(name);
        }
    }
    let file =
        other.weights_path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let first = different.first().map(|name| format!("{name} differs from {}", ours.weights_path.display()));
    report.count(&file, different.len(), first);
    Ok(())
}
