//! `embed`: images and texts to vectors.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::images;
use crate::models::{model_failure, warn_of_cut};
use crate::pipeline::embed_images;

/// Arguments of `embed`.
#[derive(Args)]
pub struct Embed {
    /// Images, folders of images, or patterns such as 'photos/*.jpg'
    #[arg(value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// A text; may be given several times
    #[arg(long = "text", value_name = "TEXT")]
    texts: Vec<String>,
    /// Leave vectors at the length that the model gives them, instead of length 1
    #[arg(long)]
    raw: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    input: &'a str,
    kind: &'static str,
    embedding: &'a [f32],
}

/// Runs `embed`.
pub fn run(arguments: &Embed, global: &Global, console: &Console) -> Result<Status, Failure> {
    let Embed { images, texts, raw } = arguments;
    if images.is_empty() && texts.is_empty() {
        let hint = "name images or folders, or give texts with --text";
        return Err(Failure::usage(anyhow!("there is nothing to embed")).hint(hint));
    }
    let model = global.load(console)?;
    let embedder = if *raw { model.raw_embedder() } else { model.embedder() };
    if !texts.is_empty() {
        let embedded = embedder.texts(texts).map_err(model_failure)?;
        warn_of_cut(texts, &embedded.truncated, &model, console);
        for (text, vector) in texts.iter().zip(embedded.embeddings.rows()) {
            print(&Line { input: text, kind: "text", embedding: vector }, console)?;
        }
    }
    let failed = embed_images(&images::find(images), embedder, console, |names, vectors| {
        let mut lines = names.iter().zip(vectors.rows());
        lines.try_for_each(|(name, vector)| {
            print(&Line { input: name, kind: "image", embedding: vector }, console)
        })
    })?;
    Ok(Status::after(failed))
}

fn print(line: &Line<'_>, console: &Console) -> Result<(), Failure> {
    /// Numbers that fit into a line with the name.
    const SHOWN: usize = 6;
    if console.json {
        return console.print(serde_json::to_string(line)?);
    }
    let first: Vec<String> = line.embedding.iter().take(SHOWN).map(|value| format!("{value:.4}")).collect();
    let more = if line.embedding.len() > SHOWN { ", ..." } else { "" };
    console.print(format_args!(
        "{}: {} numbers [{}{more}]",
        line.input,
        line.embedding.len(),
        first.join(", ")
    ))
}
