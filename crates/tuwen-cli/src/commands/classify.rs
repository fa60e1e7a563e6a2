//! `classify`: which of some labels fits an image.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tuwen::{Ability, Class, Embedder, Embeddings, LinearClassifier, Model, templates};

use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::images::{self, ImageInputs};
use crate::labels::{LabelOptions, TemplateOptions, note_mixed_languages, note_unknown_scripts};
use crate::lines::Lines;
use crate::models::{class_cache, model_failure, warn_of_cut};
use crate::pipeline::each_batch;

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
    /// A linear probe that `eval linear-probe --save` wrote, in place of labels
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["labels", "labels_file", "templates", "template_set", "templates_file"])]
    probe: Option<PathBuf>,
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
    Lines::check(arguments.output.as_deref())?;
    if let Some(probe) = &arguments.probe {
        let probe = LinearClassifier::read(probe).map_err(model_failure)?;
        return arguments.by_classifier(&probe, &global.load(Ability::Compare, console)?, console);
    }
    // The head of a fine-tuned model needs no labels; for other models this is the way to the error.
    if !label_options.are_given() && global.model.is_some() {
        let model = global.load(Ability::Compare, console)?;
        if let Some(classifier) = model.own_classifier() {
            return arguments.by_classifier(classifier, &model, console);
        }
    }
    label_options.check_dataset(template_options.file())?;
    let labels = label_options.read(console)?;
    let templates = template_options.read(label_options.dataset(), console)?;
    let model = global.load(Ability::Compare, console)?;
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
    let classifier = match class_cache().filter(|_| prompts > MANY_PROMPTS) {
        Some(directory) => model.classifier_cached(&labels, &templates, &directory),
        None => model.classifier(&labels, &templates),
    };
    let classifier = classifier.map_err(model_failure)?;
    if !classifier.truncated().is_empty() {
        let prompts = templates::fill(&labels, &templates).map_err(Failure::usage)?;
        warn_of_cut(&prompts, classifier.truncated(), &model, console);
    }
    arguments.each(model.embedder(), &labels, |vectors| classifier.probabilities(vectors), console)
}

impl Classify {
    /// Classifies by a linear probe or the head of a fine-tuned model.
    fn by_classifier(
        &self,
        classifier: &LinearClassifier,
        model: &Model,
        console: &Console,
    ) -> Result<Status, Failure> {
        let path = self.probe.as_deref().unwrap_or(Path::new(LinearClassifier::FILE));
        classifier.check(model.image_dim(classifier.features()), path).map_err(model_failure)?;
        let embedder = model.embedder_of(classifier.features());
        self.each(embedder, classifier.labels(), |vectors| classifier.probabilities(vectors), console)
    }

    /// Gives the labels of each image by the probabilities of its vector.
    fn each(
        &self,
        embedder: Embedder<'_>,
        labels: &[String],
        probabilities: impl Fn(&Embeddings) -> Vec<Vec<f32>>,
        console: &Console,
    ) -> Result<Status, Failure> {
        let failed = Lines::write(self.output.as_deref(), console, |lines| {
            let top = self.top.unwrap_or(if lines.json() { usize::MAX } else { SHOWN });
            each_batch(&self.images, embedder, console, |batch| {
                let scores = probabilities(&batch.computed);
                batch.rows().zip(scores).try_for_each(|((record, _), scores)| {
                    let mut classes = Class::ranked(labels, &scores);
                    classes.truncate(top);
                    lines.put(&Line { input: &record.input, labels: &classes }, table)
                })
            })
        })?;
        Ok(Status::after(failed))
    }
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
