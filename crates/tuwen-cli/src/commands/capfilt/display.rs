//! What is told of a job while it runs and at its end.

use std::path::Path;

use serde_json::json;
use tuwen_jobs::capfilt::{Event, Manifest, Summary, Tally, TextTally};

use crate::console::{Console, Progress};
use crate::failure::Failure;

/// Shows progress, names failures, and prints an object for each shard with `--json`.
pub(super) struct Display<'c> {
    console: &'c Console,
    progress: Progress<'c>,
    total: u64,
    failure: Option<Failure>,
}

impl<'c> Display<'c> {
    pub(super) fn new(console: &'c Console) -> Self {
        Self { console, progress: console.progress(0, "samples"), total: 0, failure: None }
    }

    pub(super) fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Planned { samples, done } => {
                self.progress = self.console.progress(*samples, "samples");
                self.progress.resume_at(*done);
                self.total = *samples;
                if *done > 0 {
                    self.console.note(format_args!("going on after {done} of {samples} samples"));
                }
            }
            Event::Damaged { reason } => self.console.warn(reason),
            Event::Failed { key, source, reason } => {
                // The reason may name the file already.
                let place =
                    if reason.contains(source) { String::new() } else { format!("{source}: {key}: ") };
                self.console.warn(format!("{place}{reason}").replace('\n', "\\n"));
            }
            Event::Samples(count) => self.progress.advance(*count as u64),
            Event::Shard(manifest) => {
                if self.console.json
                    && let Err(failure) = self.console.print(shard(manifest))
                {
                    self.failure.get_or_insert(failure);
                }
            }
        }
    }

    /// What went wrong in printing, if anything did.
    pub(super) fn end(self) -> Option<Failure> {
        self.failure
    }
}

/// The line of a finished shard.
fn shard(manifest: &Manifest) -> serde_json::Value {
    let data = manifest.data.as_ref().map(|(name, _)| name);
    let mut line = counts(&manifest.tally);
    line["shard"] = json!(manifest.shard);
    line["source"] = json!(manifest.source);
    line["data"] = json!(data);
    line
}

fn counts(tally: &Tally) -> serde_json::Value {
    let texts = |texts: &TextTally| json!({"texts": texts.texts, "kept": texts.kept, "cut": texts.cut});
    json!({
        "samples": tally.samples,
        "kept": tally.kept,
        "failed": tally.failed,
        "without_text": tally.without_text,
        "without_image": tally.without_image,
        "duplicate_keys": tally.duplicate_keys,
        "web": texts(&tally.web),
        "synthetic": texts(&tally.synthetic),
    })
}

/// Prints what became of the whole job.
pub(super) fn print(summary: &Summary, target: &Path, console: &Console) -> Result<(), Failure> {
    let tally = &summary.tally;
    if console.json {
        let mut line = counts(tally);
        line["shards"] = json!(summary.shards);
        line["damaged"] = json!(summary.damaged.iter().map(|[path, _]| path).collect::<Vec<_>>());
        return console.print(json!({"summary": line}));
    }
    console.print(format_args!(
        "{} of {} samples kept in {}",
        tally.kept,
        tally.samples,
        target.display()
    ))?;
    for (name, texts) in [("from the web", &tally.web), ("synthetic", &tally.synthetic)] {
        if texts.texts > 0 {
            let percent = 100.0 * texts.kept as f64 / texts.texts as f64;
            console.print(format_args!(
                "{:>8} of {} texts {name} kept ({percent:.1} %)",
                texts.kept, texts.texts
            ))?;
        }
    }
    for (count, what) in [
        (
            tally.web.cut + tally.synthetic.cut,
            "texts were longer than the filter reads: their beginning was scored",
        ),
        (tally.without_text, "samples came without a text"),
        (tally.without_image, "samples came without an image"),
        (tally.failed, "samples could not be read"),
        (tally.duplicate_keys, "samples repeat the key of another"),
        (summary.damaged.len() as u64, "files could not be read"),
    ] {
        if count > 0 {
            console.print(format_args!("{count:>8} {what}"))?;
        }
    }
    console.print(format_args!("the report is {}", target.join("report.html").display()))
}
