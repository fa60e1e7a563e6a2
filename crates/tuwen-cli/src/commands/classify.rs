//! `classify`: which of some labels fits an image.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use tuwen::{Class, Embedder, Embeddings, LinearClassifier, Model, templates};

use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::images;
use crate::labels::LabelOptions;
use crate::models::{model_failure, warn_of_cut};
use crate::pipeline::embed_images;

/// Labels that are shown to people.
const SHOWN: usize = 5;

/// Prompts that take long enough for people to wonder.
const MANY_PROMPTS: usize = 500;

/// Arguments of `classify`.
#[derive(Args)]
pub struct Classify {
    /// Images, folders of images, or patterns such as 'photos/*.jpg'
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    labels: LabelOptions,
    /// A linear probe that `eval linear-probe --save` wrote, in place of labels
    #[arg(long, value_name = "FILE", conflicts_with_all = ["labels", "labels_file", "templates", "template_set"])]
    probe: Option<PathBuf>,
    /// A sentence with {} where the label goes; several are averaged [default: "a photo of a {}."]
    #[arg(long = "template", value_name = "TEXT", value_parser = template)]
    templates: Vec<String>,
    /// A set of such sentences by its name
    #[arg(long = "templates", value_name = "NAME", conflicts_with = "templates")]
    #[arg(value_parser = PossibleValuesParser::new(["imagenet7"]))]
    template_set: Option<String>,
    /// How many labels to give for each image [default: 5, with --json all]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
}

#[derive(Serialize)]
struct Line<'a> {
    input: &'a str,
    labels: &'a [Class],
}

/// Runs `classify`.
pub fn run(arguments: &Classify, global: &Global, console: &Console) -> Result<Status, Failure> {
    if let Some(probe) = &arguments.probe {
        let probe = LinearClassifier::read(probe).map_err(model_failure)?;
        return arguments.by_classifier(&probe, &global.load(console)?, console);
    }
    if !arguments.labels.are_given() {
        let model = global.load(console)?;
        if let Some(classifier) = model.own_classifier() {
            return arguments.by_classifier(classifier, &model, console);
        }
    }
    let labels = arguments.labels.read(console)?;
    let templates = arguments.templates();
    let model = global.load(console)?;
    let prompts = labels.len() * templates.len();
    if prompts > MANY_PROMPTS {
        console.note(format_args!("reading {prompts} prompts"));
    }
    let classifier = model.classifier(&labels, &templates).map_err(model_failure)?;
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
        classifier.check(model.config(), path).map_err(model_failure)?;
        let embedder = model.embedder_of(classifier.features());
        self.each(embedder, classifier.labels(), |vectors| classifier.probabilities(vectors), console)
    }

    /// Prints the labels of each image by the probabilities of its vector.
    fn each(
        &self,
        embedder: Embedder<'_>,
        labels: &[String],
        probabilities: impl Fn(&Embeddings) -> Vec<Vec<f32>>,
        console: &Console,
    ) -> Result<Status, Failure> {
        let top = self.top.unwrap_or(if console.json { usize::MAX } else { SHOWN });
        let failed = embed_images(&images::find(&self.images), embedder, console, |names, vectors| {
            for (name, scores) in names.iter().zip(probabilities(vectors)) {
                let mut classes = Class::ranked(labels, &scores);
                classes.truncate(top);
                let line = Line { input: name, labels: &classes };
                console.print(if console.json { serde_json::to_string(&line)? } else { table(&line) })?;
            }
            Ok(())
        })?;
        Ok(Status::after(failed))
    }

    fn templates(&self) -> Vec<String> {
        let named = self.template_set.as_deref().and_then(templates::find);
        match named {
            Some(set) => set.iter().map(|&template| template.to_owned()).collect(),
            None if self.templates.is_empty() => vec![templates::PHOTO.to_owned()],
            None => self.templates.clone(),
        }
    }
}

/// The image, and its labels with percentages below.
fn table(line: &Line<'_>) -> String {
    let rows = line.labels.iter().map(|class| format!("\n{:7.2} %  {}", 100.0 * class.score, class.label));
    std::iter::once(line.input.to_owned()).chain(rows).collect()
}

fn template(text: &str) -> Result<String, String> {
    if text.contains("{}") {
        Ok(text.to_owned())
    } else {
        Err("it has no {} where the label goes".to_owned())
    }
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
