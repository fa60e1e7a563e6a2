//! `capfilt`: captions for a web data set, and a filter for these and the texts that it came with.

mod display;
mod models;

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use serde_json::json;
use tuwen::Ability;
use tuwen_data::dataset;
use tuwen_jobs::capfilt::{self, Format, Paths, Rule, Settings, Watch};
use tuwen_jobs::{JobError, Models};

use self::display::Display;
use self::models::{Beholder, Writing};
use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::interrupt::stop_on_interrupt;
use crate::stores;

/// Arguments of `capfilt`.
#[derive(Args)]
pub struct CapFilt {
    /// A folder of images or of shards, or tar, Parquet, CSV or TSV files: one, or several as 'data/{00000..00127}.tar'
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The directory to write: shards, every score and decision in records/, summary.json and report.html
    #[arg(value_name = "DST")]
    target: PathBuf,
    /// The model that writes captions [default: --model, else the built-in BLIP]
    #[arg(long, value_name = "MODEL")]
    captioner: Option<String>,
    /// The model that scores texts [default: --model, else a built-in one]
    #[arg(long, value_name = "MODEL")]
    filter: Option<String>,
    /// Keep texts whose probability of a match (ITM) is at least P [default: 0.5, unless --itc is given]
    #[arg(long, value_name = "P", value_parser = threshold)]
    itm: Option<f32>,
    /// Keep texts whose cosine with the image (ITC) is at least C; with --itm both have to hold
    #[arg(long, value_name = "C", value_parser = threshold, allow_hyphen_values = true)]
    itc: Option<f32>,
    #[command(flatten)]
    writing: Writing,
    /// What random captions follow from, together with the key of a sample
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    /// What to write
    #[arg(long, value_name = "FORMAT", default_value = "webdataset")]
    format: OutputFormat,
    /// Samples of a shard: work that is lost where the program is killed
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    shard_size: u32,
    /// Images that go through a model together
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch_size: u32,
    /// Decode large JPEG files at their full size
    #[arg(long)]
    exact_decode: bool,
    /// Forget what was done in DST, and begin again
    #[arg(long)]
    restart: bool,
}

/// A kind of data set.
#[derive(Clone, Copy, ValueEnum)]
enum OutputFormat {
    /// Tar files of images, texts and JSON objects
    Webdataset,
    /// Parquet files
    Parquet,
}

/// Runs `capfilt`.
pub fn run(arguments: &CapFilt, global: &Global, console: &Console) -> Result<Status, Failure> {
    // Whatever is wrong with it is said before models are read.
    dataset::files(&arguments.source, &stores::access()).map_err(Failure::usage)?;
    let name = |given: &Option<String>, task| global.model_or(given.as_deref(), task).to_owned();
    let heads = arguments.rule().heads();
    let judging = if heads.itm { Ability::Match } else { Ability::Compare };
    let filter = Beholder::open(&name(&arguments.filter, judging), global, console)?;
    let judge = filter.judge(heads)?;
    let (captioner, writing) = (name(&arguments.captioner, Ability::Caption), &arguments.writing);
    let other = match writing.captions {
        0 => None,
        _ if captioner == filter.name() => None,
        _ => Some(Beholder::open(&captioner, global, console)?),
    };
    // The same name or other files with the same image encoder: either way an image is encoded once.
    let shared = other.as_ref().is_none_or(|other| other.sees_as(&filter));
    if !shared {
        console.note("note: captioner and filter have image encoders of their own: images are encoded twice");
    }
    let author = match writing.captions {
        0 => None,
        _ => Some(other.as_ref().unwrap_or(&filter).author(writing, arguments.seed)?),
    };
    let settings = Settings {
        captioner: author.is_some().then(|| other.as_ref().unwrap_or(&filter).id()),
        filter: filter.id(),
        generation: author.as_ref().map_or(json!(null), |author| author.settings()),
        rule: arguments.rule(),
        seed: arguments.seed,
        format: arguments.format.into(),
        shard_size: arguments.shard_size as usize,
        batch_size: arguments.batch_size as usize,
        exact_decode: arguments.exact_decode,
    };
    let models = Models { captioner: author.as_ref().map(|author| author as _), filter: &judge, shared };
    let stop = stop_on_interrupt()?;
    let mut display = Display::new(console);
    let mut tell = |event: capfilt::Event<'_>| display.show(&event);
    let watch = &mut Watch { stop: &stop, tell: &mut tell };
    let done = capfilt::run(&arguments.paths(), &settings, &models, watch);
    let failure = display.end();
    let summary = done.map_err(explain)?;
    failure.map_or(Ok(()), Err)?;
    display::print(&summary, &arguments.target, console)?;
    Ok(Status::after(summary.damaged.len() + summary.tally.failed as usize))
}

impl CapFilt {
    fn rule(&self) -> Rule {
        match (self.itm, self.itc) {
            (None, None) => Rule { itm: Some(0.5), itc: None },
            (itm, itc) => Rule { itm, itc },
        }
    }

    fn paths(&self) -> Paths {
        let (source, target) = (self.source.clone(), self.target.clone());
        Paths { source, access: stores::access(), target, restart: self.restart }
    }
}

impl From<OutputFormat> for Format {
    fn from(format: OutputFormat) -> Self {
        match format {
            OutputFormat::Webdataset => Self::WebDataset,
            OutputFormat::Parquet => Self::Parquet,
        }
    }
}

/// A failure of the job, with what to try.
fn explain(error: JobError) -> Failure {
    let go_on = "the same command goes on where it stopped";
    match &error {
        error if error.is_full_disk() => {
            let hint = format!("make room; {go_on}");
            Failure::from(anyhow!("{error}")).hint(hint)
        }
        JobError::Stopped { .. } => Failure::from(error).hint(go_on),
        JobError::Model(_) => Failure::model(error),
        JobError::OtherSettings { .. } | JobError::SourceChanged { .. } => Failure::usage(error)
            .hint("give the same again, choose another DST, or begin again with --restart"),
        JobError::Locked { .. } => Failure::usage(error).hint("wait for it, or choose another DST"),
        JobError::NotEmpty { .. } => Failure::usage(error).hint("choose a new or an empty directory"),
        JobError::Io { .. } => error.into(),
        _ => Failure::usage(error),
    }
}

/// A threshold for a score.
fn threshold(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|number| (-1.0..=1.0).contains(number));
    number.ok_or_else(|| "expected a number from -1 to 1".to_owned())
}
