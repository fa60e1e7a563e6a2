//! Vectors and other results to a file: its format, and runs that can be interrupted and taken up again.

mod jsonl;
mod npy;
mod parquet;
mod part;
mod results;
mod run;

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use clap::Args;

use crate::failure::Failure;
use crate::pipeline::Record;
pub use jsonl::Line;
pub use results::{Made, ResultsOptions, Shown};
pub use run::{GO_ON, Origin, Run};

/// Where vectors go.
#[derive(Args)]
pub struct OutputOptions {
    /// Write to a file: .jsonl, .parquet (columns input, kind, embedding), or .npy (one row each; what they are of goes
    /// to FILE.jsonl)
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Go on with the unfinished run that was writing --output
    #[arg(long, requires = "output")]
    resume: bool,
    /// Forget the unfinished run that was writing --output, and begin again
    #[arg(long, requires = "output", conflicts_with = "resume")]
    restart: bool,
    /// Inputs after which what is finished is brought to the disk
    #[arg(long, hide = true, default_value = "1024", value_parser = clap::value_parser!(u32).range(1..))]
    part_size: u32,
}

/// The file that vectors go to, and how a run begins.
pub struct Target {
    path: PathBuf,
    format: Format,
    start: Start,
    part_size: usize,
}

/// What to do with an unfinished run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Refuse to lose it.
    Anew,
    Resume,
    Restart,
}

/// A kind of file for vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    JsonLines,
    Npy,
    Parquet,
}

/// Takes rows one by one; the file is whole once `finish` returns.
trait Writer {
    fn write(&mut self, record: &Record, vector: &[f32]) -> Result<()>;
    fn finish(self: Box<Self>) -> Result<()>;
}

impl OutputOptions {
    /// The file, if there is to be one.
    ///
    /// # Errors
    /// A name whose ending is that of no format.
    pub fn target(&self) -> Result<Option<Target>, Failure> {
        let Some(path) = &self.output else { return Ok(None) };
        let start = match (self.resume, self.restart) {
            (true, _) => Start::Resume,
            (_, true) => Start::Restart,
            _ => Start::Anew,
        };
        let format = Format::of(path).ok_or_else(|| {
            Failure::usage(anyhow!("{}: no format for vectors has this ending", path.display()))
                .hint("give the file the ending .jsonl, .parquet or .npy")
        })?;
        Ok(Some(Target { path: path.clone(), format, start, part_size: self.part_size as usize }))
    }
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        let suffix = path.extension()?.to_str()?.to_ascii_lowercase();
        match suffix.as_str() {
            "jsonl" => Some(Self::JsonLines),
            "npy" => Some(Self::Npy),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// `name` with more at its end.
fn extended(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}
