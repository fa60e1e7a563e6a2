//! `eval`: benchmarks of a model, one file a suite.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use tuwen::{Ability, Embedder, Model};
use tuwen_data::dataset::{self, CutFiles, DataError, Dataset, DatasetSpec};
use tuwen_eval::annotations::AnnotationError;
use tuwen_eval::{Encoded, Encoder, EvalError, Metrics, encode};

use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::models::model_failure;
use crate::stores;

mod by_model;
mod caption;
mod expect;
mod features;
mod linear_probe;
mod matching;
mod pairs;
mod report;
mod retrieval;
mod vqa;
mod zeroshot;

use expect::Expected;
use report::Report;

/// Arguments of `eval`.
#[derive(Args)]
#[command(subcommand_required = true)]
pub struct Eval {
    #[command(subcommand)]
    suite: Suite,
}

/// The benchmarks.
#[derive(Subcommand)]
enum Suite {
    /// Name the classes of images by prompts
    Zeroshot(zeroshot::ZeroShot),
    /// Find images by their captions, and captions by their images
    Retrieval(retrieval::Retrieval),
    /// Tell captions from those of other images, by vectors and by a head that saw image and text
    Matching(matching::Matching),
    /// Learn a linear classifier on the features of one data set, and measure it on another
    LinearProbe(linear_probe::LinearProbe),
    /// Measure captions of a model, or in a file, against what people wrote
    Caption(caption::Caption),
    /// Measure answers of a model, or in a file, against what people answered
    Vqa(vqa::Vqa),
}

/// What every suite takes.
#[derive(Args)]
struct Common {
    /// Only the first samples of each data set
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    cut: Cut,
    #[command(flatten)]
    expectations: Expectations,
}

/// What becomes of files that were cut.
#[derive(Args)]
struct Cut {
    /// Measure on what is whole of shards that were cut, instead of refusing them
    #[arg(long)]
    pass_over_cut: bool,
}

impl Cut {
    fn files(&self) -> CutFiles {
        if self.pass_over_cut { CutFiles::PassOver } else { CutFiles::Refuse }
    }
}

/// What metrics should be.
#[derive(Args)]
struct Expectations {
    /// Fail with exit status 4 unless a metric is what it should be: top1=75.2±0.5 (or +-0.5), top1>=75
    #[arg(long = "expect", value_name = "METRIC")]
    expected: Vec<Expected>,
}

/// Runs `eval`.
pub fn run(arguments: &Eval, global: &Global, console: &Console) -> Result<Status, Failure> {
    match &arguments.suite {
        Suite::Zeroshot(suite) => suite.run(global, console),
        Suite::Retrieval(suite) => suite.run(global, console),
        Suite::Matching(suite) => suite.run(global, console),
        Suite::LinearProbe(suite) => suite.run(global, console),
        Suite::Caption(suite) => suite.run(global, console),
        Suite::Vqa(suite) => suite.run(global, console),
    }
}

impl Common {
    fn open(&self, path: &Path) -> Result<Box<dyn Dataset>, Failure> {
        let mut spec = DatasetSpec::new(path);
        (spec.access, spec.cut_files) = (stores::access(), self.cut.files());
        spec.limit = self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        dataset::open(&spec).map_err(data_failure)
    }
}

fn data_failure(error: DataError) -> Failure {
    if error.is_cut() {
        return Failure::usage(error)
            .hint("--pass-over-cut measures on the samples before it, which are fewer");
    }
    Failure::usage(error)
        .hint("give a folder with a folder for each class, a .tar of WebDataset's, a Parquet or CSV file")
}

/// What stands in the way of a suite.
fn eval_failure(error: EvalError) -> Failure {
    match &error {
        EvalError::Model(_) | EvalError::NotFinite => Failure::model(error),
        EvalError::Memory { .. } => {
            Failure::usage(error).hint("raise --max-memory, or take fewer samples with --limit")
        }
        EvalError::NoClass { .. } => {
            Failure::usage(error).hint("give labels in the data, or put each class into a folder of its name")
        }
        _ => Failure::usage(error),
    }
}

/// What stands in the way of measuring texts.
fn text_failure(error: impl Into<EvalError>) -> Failure {
    let error = error.into();
    let hint = match &error {
        EvalError::Annotations(AnnotationError::Missing { .. }) => "--partial measures what is there",
        EvalError::Annotations(AnnotationError::Json { .. }) => "the file may be cut, or of another kind",
        _ => return eval_failure(error),
    };
    Failure::usage(error).hint(hint)
}

/// Encodes a data set under a progress bar.
fn encode_all<E: Encoder>(
    encoder: &E,
    dataset: &dyn Dataset,
    console: &Console,
) -> Result<Encoded, EvalError> {
    let mut progress = console.progress(dataset.len() as u64, "images");
    encode(encoder, dataset, &mut |count| progress.advance(count as u64))
}

/// The name of a data set: that of its file.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// A data set to measure on, as the simple suites take it.
#[derive(Args)]
struct Data {
    /// The data: a folder, .tar files or Parquet files
    #[arg(value_name = "DATA")]
    path: PathBuf,
}

/// What a suite measures.
struct Measured<'m> {
    model: &'m Model,
    embedder: Embedder<'m>,
    dataset: &'m dyn Dataset,
    encoded: &'m Encoded,
}

/// What a suite found, over so many images; of the others the reason why they cannot be read.
struct Found {
    metrics: Metrics,
    images: usize,
    failed: Vec<String>,
}

/// Runs a suite that needs no training: opens, measures, reports. Of the abilities the first says which built-in model is
/// taken where none is given, the second what a model has to have.
fn suite(
    suite: &'static str,
    (data, common): (&Data, &Common),
    (global, console): (&Global, &Console),
    [best, needed]: [Ability; 2],
    found: impl FnOnce(&Model, &dyn Dataset) -> Result<Found, EvalError>,
) -> Result<Status, Failure> {
    let dataset = common.open(&data.path)?;
    let model = global.load(best, console)?;
    model.require(needed).map_err(model_failure)?;
    let began = Instant::now();
    let Found { metrics, images, failed } = found(&model, dataset.as_ref()).map_err(eval_failure)?;
    failed.iter().for_each(|reason| console.warn(reason));
    let seconds = began.elapsed().as_secs_f64();
    console.note(format_args!("{images} images in {seconds:.1} s"));
    let report = Report { suite, data: stem(&data.path), model: model.name().to_owned(), metrics };
    report.print(&common.expectations.expected, failed.len(), console)
}

/// Runs a suite that measures vectors of a data set.
fn measure(
    name: &'static str,
    source: (&Data, &Common),
    (global, console): (&Global, &Console),
    task: Ability,
    metrics: impl FnOnce(&Measured<'_>) -> Result<Metrics, EvalError>,
) -> Result<Status, Failure> {
    suite(name, source, (global, console), [task; 2], |model, dataset| {
        let embedder = model.embedder();
        let encoded = encode_all(&embedder, dataset, console)?;
        let metrics = metrics(&Measured { model, embedder, dataset, encoded: &encoded })?;
        Ok(Found { metrics, images: encoded.samples.len(), failed: encoded.failed })
    })
}
