//! `classify`: which of some labels fits an image.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tuwen::{Class, templates};

use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::images::{self, ImageInputs};
use crate::labels::{LabelOptions, TemplateOptions, note_mixed_languages, note_unknown_scripts};
use crate::lines::Lines;
use crate::models::{model_failure, warn_of_cut};
use crate::pipeline::embed_images;

/// Labels that are shown to people.
const SHOWN: usize = 5;

/// Prompts that take long enough for people to wonder.
const MANY_PROMPTS: usize = 500;

/// Arguments of `classify`.
#[derive(Args)]
#[command(group = images::required())]
pub struct Classify {
    #[command(flatten)]
    images: ImageInputs,
    #[command(flatten)]
    labels: LabelOptions,
    #[command(flatten)]
    templates: TemplateOptions,
    /// How many labels to give for each image [default: 5, with --json all]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Write JSON lines to a file, which appears when it is whole
    #[arg(long, value_name = "FILE.jsonl")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Line<'a> {
    input: &'a str,
    labels: &'a [Class],
}

/// Runs `classify`.
pub fn run(arguments: &Classify, global: &Global, console: &Console) -> Result<Status, Failure> {
    let Classify { images, labels: label_options, templates: template_options, .. } = arguments;
    images.check()?;
    label_options.check_dataset(template_options.file())?;
    let labels = label_options.read(console)?;
    let templates = template_options.read(label_options.dataset(), console)?;
    Lines::check(arguments.output.as_deref())?;
    let model = global.load(console)?;
    note_unknown_scripts("labels", &labels, &model, console);
    note_mixed_languages(
        (&labels, label_options.file().map(PathBuf::as_path)),
        (&templates, template_options.file().map(PathBuf::as_path)),
        console,
    );
    let prompts = labels.len() * templates.len();
    if prompts > MANY_PROMPTS {
        console.note(format_args!("reading {prompts} prompts"));
    }
    let classifier = model.classifier(&labels, &templates).map_err(model_failure)?;
    if !classifier.truncated().is_empty() {
        let prompts = templates::fill(&labels, &templates).map_err(Failure::usage)?;
        warn_of_cut(&prompts, classifier.truncated(), &model, console);
    }
    let failed = Lines::write(arguments.output.as_deref(), console, |lines| {
        let top = arguments.top.unwrap_or(if lines.json() { usize::MAX } else { SHOWN });
        embed_images(images, model.embedder(), console, |batch| {
            let scores = classifier.probabilities(&batch.vectors);
            batch.rows().zip(scores).try_for_each(|((record, _), scores)| {
                let mut classes = Class::ranked(&labels, &scores);
                classes.truncate(top);
                lines.put(&Line { input: &record.input, labels: &classes }, table)
            })
        })
    })?;
    Ok(Status::after(failed))
}

/// The image, and its labels with percentages below.
fn table(line: &Line<'_>) -> String {
    let rows = line.labels.iter().map(|class| format!("\n{:7.2} %  {}", 100.0 * class.score, class.label));
    std::iter::once(line.input.to_owned()).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_stand_below_each_other() {
        let labels =
            [("cat", 0.9312), ("dog", 0.0688)].map(|(label, score)| Class { label: label.to_owned(), score });
        let shown = table(&Line { input: "a.jpg", labels: &labels });
        assert_eq!(shown, "a.jpg\n  93.12 %  cat\n   6.88 %  dog");
    }
}
