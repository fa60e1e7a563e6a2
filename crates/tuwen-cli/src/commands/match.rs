//! `match`: images against texts.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::images::{self, ImageInputs, stdin_twice};
use crate::labels::note_unknown_scripts;
use crate::lines::Lines;
use crate::models::{model_failure, warn_of_cut};
use crate::pipeline::embed_images;
use crate::texts::TextInputs;

/// Arguments of `match`.
#[derive(Args)]
#[command(group = images::required())]
#[command(mut_group("TextInputs", |group| group.required(true)))]
pub struct Match {
    #[command(flatten)]
    images: ImageInputs,
    #[command(flatten)]
    texts: TextInputs,
    /// Write JSON lines to a file, which appears when it is whole
    #[arg(long, value_name = "FILE.jsonl")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Line<'a> {
    input: &'a str,
    matches: Vec<Fit<'a>>,
}

#[derive(Serialize)]
struct Fit<'a> {
    text: &'a str,
    similarity: f32,
    probability: f32,
}

/// Runs `match`.
pub fn run(arguments: &Match, global: &Global, console: &Console) -> Result<Status, Failure> {
    let Match { images, texts, output } = arguments;
    images.check()?;
    if images.uses_of_stdin() + texts.uses_of_stdin() > 1 {
        return Err(stdin_twice());
    }
    Lines::check(output.as_deref())?;
    let texts = &texts.read(images.null)?;
    if texts.is_empty() {
        return Err(Failure::usage(anyhow!("there are no texts to compare with")));
    }
    let model = global.load(console)?;
    note_unknown_scripts("texts", texts, &model, console);
    let matcher = model.matcher(texts).map_err(model_failure)?;
    warn_of_cut(texts, matcher.truncated(), &model, console);
    let failed = Lines::write(output.as_deref(), console, |lines| {
        embed_images(images, model.embedder(), console, |batch| {
            let cosines = matcher.similarities(&batch.vectors);
            batch.rows().zip(cosines).try_for_each(|((record, _), cosines)| {
                let mut probabilities = cosines.clone();
                matcher.to_probabilities(&mut probabilities);
                let fits = texts.iter().zip(cosines.iter().zip(&probabilities));
                let fits =
                    fits.map(|(text, (&similarity, &probability))| Fit { text, similarity, probability });
                lines.put(&Line { input: &record.input, matches: fits.collect() }, table)
            })
        })
    })?;
    Ok(Status::after(failed))
}

/// The image, and the texts with cosine and percentage below.
fn table(line: &Line<'_>) -> String {
    let row = |fit: &Fit| format!("\n{:8.4} {:7.2} %  {}", fit.similarity, 100.0 * fit.probability, fit.text);
    std::iter::once(line.input.to_owned()).chain(line.matches.iter().map(row)).collect()
}
