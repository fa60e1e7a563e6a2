//! A zero-shot classifier: prompts, their ids, class vectors, logits, probabilities and the best class.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tuwen::{Embeddings, ModelFiles, Options, templates};
use tuwen_data::tokenizer::{ClipTokenizer, Flavour, Overflow};
use tuwen_models::clip::{Clip, TokenIds};
use tuwen_nn::{Pass, Scope};
use tuwen_tensor::checkpoint::TensorSource;
use tuwen_tensor::{Tensor, ops};

use super::case::{Case, tensor, token_ids};
use super::report::{Expected, Report, Tolerance};
use super::tokenization::integers;

/// The factor that open_clip's evaluation multiplies cosines with.
const LOGIT_FACTOR: f32 = 100.0;

#[derive(Deserialize)]
struct Config {
    /// Path of the weights, relative to the case.
    weights: String,
    class_names: Vec<String>,
    templates: Vec<String>,
    texts: Vec<String>,
}

/// Whether a case is a classifier.
pub fn fits(case: &Case) -> Result<bool> {
    Ok(case.has("config.json") && case.tensors("inputs.safetensors")?.info("token_ids").is_some())
}

/// Computes and compares.
pub fn run(case: &Case) -> Result<Report> {
    let tolerance = case.tolerance()?;
    let path = case.path("config.json");
    let config: Config =
        serde_json::from_value(case.json("config.json")?).with_context(|| path.display().to_string())?;
    let inputs = case.tensors("inputs.safetensors")?;
    let mut expected = Expected::new(case.tensors("expected.safetensors")?);
    let mut report = Report::default();

    let prompts = templates::fill(&config.class_names, &config.templates)?;
    check_texts(&prompts, &config.texts, &mut report);
    let recorded = inputs.read("token_ids_clip_vocabulary")?;
    let length = recorded.shape.last().copied().unwrap_or(0);
    let tokenizer = ClipTokenizer::openai().with_flavour(Flavour::OpenClip);
    let batch = tokenizer.encode_batch(&prompts, length, Overflow::Truncate)?;
    report.compare(
        "token_ids_clip_vocabulary",
        integers(&recorded.shape, &batch.ids),
        &recorded,
        Tolerance::EXACT,
    );

    let weights = case.path(&config.weights);
    let files = ModelFiles::open(&weights.to_string_lossy(), &Options::default())?;
    let load = |report| tuwen::Error::Load { path: weights.clone(), misfit: None, report: Box::new(report) };
    let clip = Clip::new(&files.config, Scope::load(files.weights.clone())).map_err(load)?;
    let tokens = token_ids(&inputs, "token_ids", None, files.config.text.vocab_size)?;
    let (classes, dim) = (config.class_names.len(), files.config.projection_dim);
    let text = clip.embed_text(&TokenIds { attention_mask: None, ..tokens }, &Pass::eval());
    let shape = [classes, config.templates.len(), dim];
    expected.check(&mut report, "text_embeddings_normalised", &text.reshape(&shape), tolerance)?;
    let class_vectors = Embeddings::new(text.to_vec(), dim).grouped(config.templates.len());
    let class_vectors = Tensor::new(class_vectors.values(), &[classes, dim]);
    expected.check(&mut report, "classifier", &ops::permute(&class_vectors, &[1, 0]), tolerance)?;
    let image = clip.embed_image(&tensor(&inputs, "image")?, &Pass::eval());
    expected.check(&mut report, "image_features_normalised", &image, tolerance)?;
    let logits = ops::scale(&ops::matmul_nt(&image, &class_vectors), LOGIT_FACTOR);
    expected.check(&mut report, "logits", &logits, Tolerance::abs(case.tolerance_of("logits_abs")?))?;
    expected.check(&mut report, "probabilities", &ops::softmax(&logits), tolerance)?;
    let top1: Vec<f32> = logits.to_vec().chunks_exact(classes).map(|row| largest(row) as f32).collect();
    expected.check(&mut report, "top1", &Tensor::new(&top1, &[top1.len()]), Tolerance::EXACT)?;
    expected.finish(&mut report, tolerance);
    Ok(report)
}

fn check_texts(got: &[String], expected: &[String], report: &mut Report) {
    let longest = got.len().max(expected.len());
    let different: Vec<_> = (0..longest).filter(|&i| got.get(i) != expected.get(i)).collect();
    let first =
        different.first().map(|&i| format!("text {i}: expected {:?}, got {:?}", expected.get(i), got.get(i)));
    report.count("texts", different.len(), first);
}

fn largest(row: &[f32]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a))).unwrap_or(0)
}
