//! `params`: why a model is as large as it is.

mod difference;
mod table;
mod treemap;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tuwen::params::{self, Change, Report, WhatIf};
use tuwen::{Ability, Error, Options};

use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::models::model_failure;

/// Arguments of `params`.
#[derive(Args)]
#[command(after_long_help = "\
SIZES of --what-if: width, depth, heads, mlp (of both towers, or of one: vision.width, text.depth), patch, image, vocab, \
context, joint. Of BLIP and ALBEF a decoder of answers follows the encoder of questions.
A number with a point or an x multiplies (width=0.5, depth=x2); a whole number is the new size (depth=2 is two layers). \
Heads keep their width if the new width allows it, MLPs keep their ratio.

FIGURES: operations count two for each multiplication and addition in products, convolutions and attention, as open_clip's \
model profile does; a text is as long as the context. Memory is that of activations in f32 for one image and one text: \
at its height in inference, and what training keeps for the backward pass; keys and values are those of all layers.
The share of a cause is what halving it would save; causes act together, so their shares do not add up to 100 %.")]
pub struct Params {
    /// A checkpoint (as for --model), or a published architecture such as clip-vit-base-patch32 or ViT-H-14
    #[arg(value_name = "MODEL")]
    subject: Option<String>,
    /// How many levels of parts to show; with --json all are given
    #[arg(long, value_name = "N", default_value_t = 2)]
    depth: usize,
    /// Show what other sizes would change, e.g. width=0.5,text.depth=6,patch=16,image=336 (more with --help)
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = change)]
    what_if: Vec<Change>,
    /// Draw the parts as a page with a treemap
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// For clap, which shows the message after the name of the option.
fn change(text: &str) -> Result<Change, String> {
    text.parse().map_err(|error: tuwen::params::WhatIfError| error.to_string())
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    what_if: Option<&'a WhatIf>,
}

/// Runs `params`.
pub fn run(arguments: &Params, global: &Global, console: &Console) -> Result<Status, Failure> {
    let model = arguments.subject.as_deref().unwrap_or(global.model(Ability::Compare));
    global.fetch(model, console)?;
    let (report, what_if) = take_apart(model, &arguments.what_if, &global.options()).map_err(explain)?;
    for note in &report.notes {
        console.note(format_args!("note: {note}"));
    }
    if console.json {
        console.print(serde_json::to_string(&Line { report: &report, what_if: what_if.as_ref() })?)?;
    } else {
        console.print(match &what_if {
            None => table::report(model, &report, arguments.depth),
            Some(what_if) => difference::report(model, &report, what_if, arguments.depth),
        })?;
    }
    if let Some(path) = &arguments.html {
        write(path, &treemap::page(model, &report, what_if.as_ref()))?;
        console.note(format_args!("the treemap is in {}", path.display()));
    }
    Ok(Status::Done)
}

fn take_apart(model: &str, changes: &[Change], options: &Options) -> Result<(Report, Option<WhatIf>), Error> {
    if changes.is_empty() {
        return Ok((params::report(model, options)?, None));
    }
    let (report, what_if) = params::what_if(model, changes, options)?;
    Ok((report, Some(what_if)))
}

fn explain(error: Error) -> Failure {
    match error {
        Error::NoSuchModel(_) => {
            let known: Vec<_> = params::architectures().collect();
            Failure::model(error).hint(format!("published architectures: {}", known.join(", ")))
        }
        Error::WhatIf(_) => Failure::usage(error).hint("tuwen params --help says how sizes are written"),
        Error::UnknownSizes(_) => Failure::usage(error),
        other => model_failure(other),
    }
}

/// Writes beside the file first: an old page stays whole until the new one is.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let name = path.file_name().with_context(|| format!("{}: no file name", path.display()))?;
    let beside = path.with_file_name(format!(".{}.part", name.to_string_lossy()));
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    Ok(written.with_context(|| format!("{}: cannot be written", path.display()))?)
}
