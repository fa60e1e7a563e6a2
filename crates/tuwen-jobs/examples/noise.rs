//! Adds known noise to a data set, and counts what of it a run of `tuwen capfilt` found.
//!
//! `noise add SRC NOISY.tar NOISE.jsonl`, then `tuwen capfilt NOISY.tar OUT`, then `noise found OUT NOISE.jsonl`.
#![allow(clippy::print_stdout)] // results

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tuwen_jobs::noise::{Amount, add, found};

/// Known noise in texts: add it, and count what of it was found.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Write the first text of each sample, or noise in its place: shuffled, in another language, boilerplate
    Add {
        /// A data set with texts
        source: PathBuf,
        /// The tar file to write
        tar: PathBuf,
        /// The list of noise to write
        list: PathBuf,
        /// The part of the samples that get noise
        #[arg(long, default_value = "0.4")]
        fraction: f32,
        /// What decides which
        #[arg(long, default_value = "0")]
        seed: u64,
        /// Use the first samples only
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Print precision and recall of the noise that a run dropped, as JSON
    Found {
        /// The directory that `tuwen capfilt` wrote
        job: PathBuf,
        /// The list of noise
        list: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().step {
        Step::Add { source, tar, list, fraction, seed, limit } => {
            let replaced = add(&source, &tar, &list, Amount { fraction, seed, limit })?;
            println!("{{\"noise\":{replaced}}}");
        }
        Step::Found { job, list } => println!("{}", serde_json::to_string_pretty(&found(&job, &list)?)?),
    }
    Ok(())
}
