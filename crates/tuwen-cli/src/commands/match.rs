//! `match`: images against texts.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::images;
use crate::models::{model_failure, warn_of_cut};
use crate::pipeline::embed_images;

/// Arguments of `match`.
#[derive(Args)]
pub struct Match {
    /// Images, folders of images, or patterns such as 'photos/*.jpg'
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// A text to compare with; may be given several times
    #[arg(long = "text", value_name = "TEXT", required = true)]
    texts: Vec<String>,
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
    let texts = &arguments.texts;
    let model = global.load(console)?;
    let matcher = model.matcher(texts).map_err(model_failure)?;
    warn_of_cut(texts, matcher.truncated(), &model, console);
    let failed =
        embed_images(&images::find(&arguments.images), model.embedder(), console, |names, vectors| {
            for (name, cosines) in names.iter().zip(matcher.similarities(vectors)) {
                let mut probabilities = cosines.clone();
                matcher.to_probabilities(&mut probabilities);
                let fits = texts.iter().zip(cosines.iter().zip(&probabilities));
                let fits =
                    fits.map(|(text, (&similarity, &probability))| Fit { text, similarity, probability });
                let line = Line { input: name, matches: fits.collect() };
                console.print(if console.json { serde_json::to_string(&line)? } else { table(&line) })?;
            }
            Ok(())
        })?;
    Ok(Status::after(failed))
}

/// The image, and the texts with cosine and percentage below.
fn table(line: &Line<'_>) -> String {
    let row = |fit: &Fit| format!("\n{:8.4} {:7.2} %  {}", fit.similarity, 100.0 * fit.probability, fit.text);
    std::iter::once(line.input.to_owned()).chain(line.matches.iter().map(row)).collect()
}
