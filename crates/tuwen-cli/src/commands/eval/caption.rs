//! `eval caption`: captions against what people wrote, by the metrics of the COCO tools.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::json;
use tuwen::Ability;
use tuwen_eval::annotations::{
    CaptionPredictions, CaptionReferences, caption_predictions, caption_references,
};
use tuwen_eval::metrics::caption::{CaptionOptions, DocumentFrequencies, Meteor};
use tuwen_eval::suites::{self, Captioned};
use tuwen_eval::write_captions;
use tuwen_tensor::checkpoint::write_atomically;

use super::by_model::{ByModel, tell};
use super::{Expectations, Report, eval_failure, stem, text_failure};
use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::lines::Lines;
use crate::models::model_failure;
use crate::writing::writing_failure;

/// Arguments of `eval caption`.
#[derive(Args)]
#[command(
    after_help = "Values are times 100, as papers print them. cider_d is what the COCO tools call CIDEr. meteor_exact_stem \
    matches equal words and stems; METEOR's stages of synonyms (WordNet) and paraphrases (its paraphrase table) need data that \
    tuwen does not bring, so it is not to be compared with published values of METEOR. SPICE is missing."
)]
pub struct Caption {
    /// Images with captions, about which the model writes: a folder, .tar files or Parquet files
    #[arg(value_name = "DATA", conflicts_with_all = ["predictions", "references"])]
    data: Option<PathBuf>,
    /// What was predicted: [{"image_id", "caption"}, ...]
    #[arg(long, value_name = "FILE", required_unless_present = "data", requires = "references")]
    predictions: Option<PathBuf>,
    /// What people wrote: COCO's annotations, Karpathy's file, or a list of {"image", "caption"}
    #[arg(long, value_name = "FILE", requires = "predictions")]
    references: Option<PathBuf>,
    #[command(flatten)]
    model: ByModel,
    /// The images of Karpathy's file to take [default: test]
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Leave out images without a prediction instead of refusing
    #[arg(long)]
    partial: bool,
    /// Take the document frequencies of CIDEr from a file instead of the references
    #[arg(long, value_name = "FILE")]
    document_frequencies: Option<PathBuf>,
    /// Write the document frequencies of these references to a file
    #[arg(long, value_name = "FILE")]
    save_document_frequencies: Option<PathBuf>,
    /// Words that count less in meteor_exact_stem, one a line
    #[arg(long, value_name = "FILE")]
    function_words: Option<PathBuf>,
    /// Write the metrics of each caption to a .jsonl file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    expectations: Expectations,
}

/// Bytes of a list or of document frequencies at most; those of all of COCO have some 100 MB.
const LARGEST: u64 = 2 << 30;

impl Caption {
    pub fn run(&self, global: &Global, console: &Console) -> Result<Status, Failure> {
        Lines::check(self.output.as_deref())?;
        let (Some(predictions), Some(references)) = (&self.predictions, &self.references) else {
            return self.by_model(global, console);
        };
        let (name, data) = (stem(predictions), stem(references));
        let predictions = caption_predictions(predictions).map_err(text_failure)?;
        let references = caption_references(references, self.split.as_deref()).map_err(text_failure)?;
        self.measure((&predictions, &references), (&name, data, 0), console)
    }

    /// Lets the model write about a data set, and measures what it writes.
    fn by_model(&self, global: &Global, console: &Console) -> Result<Status, Failure> {
        let (path, dataset) = self.model.open(self.data.as_deref(), None)?;
        let model = global.load(Ability::Caption, console)?;
        let captioner = model.captioner().map_err(model_failure)?;
        let mut options = self.model.writing.over(captioner.options(), || captioner.nucleus(1.0, 0));
        if let Some(prompt) = &self.model.prompt {
            options.prompt.clone_from(prompt);
        }
        captioner.check(&options).map_err(writing_failure)?;
        let mut progress = console.progress(dataset.len() as u64, "images");
        let written = write_captions(&captioner, &options, model.name(), dataset.as_ref(), &mut |count| {
            progress.advance(count as u64);
        });
        drop(progress);
        let written = written.map_err(eval_failure)?;
        tell(&written, "captions", console);
        self.model.save(&written.predictions, ["image_id", "caption"])?;
        let failed = written.failed.len();
        self.measure((&written.predictions, &written.references), (model.name(), stem(path), failed), console)
    }

    /// Measures captions, from a file or from a model, of which `failed` could not be written.
    fn measure(
        &self,
        (predictions, references): (&CaptionPredictions, &CaptionReferences),
        (model, data, failed): (&str, String, usize),
        console: &Console,
    ) -> Result<Status, Failure> {
        let found =
            suites::caption(predictions, references, &self.options()?, self.partial).map_err(text_failure)?;
        say(&found, console);
        if let Some(path) = &self.save_document_frequencies {
            save_frequencies(&found, path)?;
        }
        if let Some(path) = &self.output {
            write_items(&found, path, console)?;
        }
        let report = Report { suite: "caption", data, model: model.to_owned(), metrics: found.metrics() };
        report.print(&self.expectations.expected, failed, console)
    }

    fn options(&self) -> Result<CaptionOptions, Failure> {
        let mut options = CaptionOptions::default();
        if let Some(path) = &self.document_frequencies {
            let frequencies = DocumentFrequencies::from_json(&read(path)?);
            options.frequencies =
                Some(frequencies.map_err(|error| Failure::usage(anyhow!("{}: {error}", path.display())))?);
        }
        if let Some(path) = &self.function_words {
            let function_words: HashSet<String> = read(path)?.split_whitespace().map(str::to_owned).collect();
            options.meteor = Meteor { function_words, ..options.meteor };
        }
        Ok(options)
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = tuwen_data::files::read_text(path, LARGEST)
        .with_context(|| format!("cannot read {}", path.display()));
    text.map_err(Failure::usage)
}

fn say(found: &Captioned, console: &Console) {
    let total = found.images.len();
    console.note(format_args!("{total} images measured"));
    if found.unpredicted > 0 {
        console.warn(format_args!("{} images have no prediction and are left out", found.unpredicted));
    }
    if found.empty > 0 {
        console.warn(format_args!("{} of {total} captions have no word", found.empty));
    }
    if found.empty_references > 0 {
        console.warn(format_args!("{} references have no word and are left out", found.empty_references));
    }
}

fn save_frequencies(found: &Captioned, path: &Path) -> Result<(), Failure> {
    let counted = DocumentFrequencies::of(found.items.iter().map(|item| item.references.as_slice()));
    let text = counted.to_json()?;
    Ok(write_atomically(path, |out| out.write_all(text.as_bytes()))?)
}

/// A line for each image: the caption as tokens, and its metrics.
fn write_items(found: &Captioned, path: &Path, console: &Console) -> Result<(), Failure> {
    Lines::write(Some(path), console, |lines| {
        for ((id, item), score) in found.images.iter().zip(&found.items).zip(&found.scores.items) {
            let line =
                json!({"image_id": id, "tokens": item.candidate.join(" "), "metrics": score.metrics()});
            lines.put(&line, ToString::to_string)?;
        }
        Ok(())
    })
}
