//! A run that writes vectors in parts, so that it can be killed at any moment and go on.
//!
//! Parts lie in a folder beside the target, in the order of the inputs, and each ends where a batch does: a run that
//! goes on makes the batches that an uninterrupted one would have made, and so the same numbers. At the end the parts
//! become the target, which appears as a whole.

use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};
use tuwen_tensor::checkpoint::write_atomically;

use super::jsonl::JsonLines;
use super::npy::Npy;
use super::parquet::{self, Parquet};
use super::part::{Part, read_records};
use super::{Format, Start, Target, Writer, extended};
use crate::console::Console;
use crate::failure::Failure;
use crate::pipeline::{Batch, Kind, Record};

/// Work that is not brought to the disk for longer than this would be missed.
pub(super) const INTERVAL: Duration = Duration::from_secs(20);

/// The file that says what a run belongs to.
pub(super) const ORIGIN: &str = "run.json";
/// The file that is locked by the process at work.
const LOCK: &str = "lock";

/// What the vectors come from: all of it has to be the same when a run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// What the model was called; the only part that may differ.
    pub model: String,
    /// What tells the model from others.
    pub fingerprint: String,
    /// Whether vectors keep the length that the model gives them.
    pub raw: bool,
    /// Whether images are decoded at their full size, as earlier builds always did.
    #[serde(default = "always")]
    pub exact_decode: bool,
    /// What the network multiplied in.
    #[serde(default = "single")]
    pub precision: String,
    /// Numbers of a vector.
    pub dim: usize,
}

/// What runs multiplied in that do not say.
fn single() -> String {
    tuwen::Precision::F32.to_string()
}

/// How runs decoded that do not say.
fn always() -> bool {
    true
}

/// A run and what it has finished.
pub struct Run {
    target: Target,
    origin: Origin,
    directory: PathBuf,
    /// Held for as long as the process lives.
    _lock: File,
    parts: usize,
    pending: Part,
    written: Instant,
    /// Vectors, and inputs that failed, of all parts and what is pending.
    rows: u64,
    failed: u64,
}

impl Run {
    /// Begins a run or takes up an unfinished one; inputs that failed in it are named again. None where the target is
    /// whole and no unfinished run beside it that could go on.
    ///
    /// # Errors
    /// A place that cannot be written to, an unfinished run that would be lost, or one of another model or with other
    /// options.
    pub fn open(target: Target, origin: Origin, console: &Console) -> Result<Option<Self>, Failure> {
        let directory = extended(&target.path, ".part");
        // Killed while it removed its parts, a run has left a folder without origin.
        if target.start == Start::Resume && target.path.exists() && !directory.join(ORIGIN).exists() {
            check_whole(&target, &origin)?;
            if directory.exists() {
                remove(&directory)?;
            }
            return Ok(None);
        }
        let made =
            fs::create_dir(&directory).or_else(|error| if directory.is_dir() { Ok(()) } else { Err(error) });
        made.with_context(|| directory.display().to_string()).map_err(Failure::usage)?;
        let lock = lock(&directory, &target.path)?;
        let mut run = Self {
            target,
            origin,
            directory,
            _lock: lock,
            parts: 0,
            pending: Part::default(),
            written: Instant::now(),
            rows: 0,
            failed: 0,
        };
        run.take_up(console)?;
        Ok(Some(run))
    }

    fn take_up(&mut self, console: &Console) -> Result<(), Failure> {
        remove_files(&self.directory, |name| name.starts_with('.') && name.ends_with(".tmp"))?;
        let begun = self.directory.join(ORIGIN);
        // Without this file no part counts: it is written first and removed first.
        if begun.exists() {
            while self.part(self.parts).exists() {
                self.parts += 1;
            }
        }
        match self.target.start {
            Start::Resume if self.parts > 0 => self.compare(&begun)?,
            Start::Anew if self.parts > 0 => {
                return Err(unfinished(&self.directory, &format!("{} parts", self.parts)));
            }
            _ => {
                self.parts = 0;
                remove_files(&self.directory, |name| name == ORIGIN)?;
                remove_files(&self.directory, |name| name.starts_with("part-"))?;
                write_atomically(&begun, |out| Ok(serde_json::to_writer_pretty(out, &self.origin)?))?;
            }
        }
        for part in 0..self.parts {
            let records = read_records(&self.part(part), self.origin.dim).map_err(damaged)?;
            for record in &records {
                self.count(record);
                if let Some(error) = &record.error {
                    console.warn(format_args!("{}: {error}", record.input));
                }
            }
        }
        if self.parts > 0 {
            console.note(format_args!("going on after {} vectors", self.rows));
        }
        Ok(())
    }

    /// Compares what an unfinished run belongs to.
    fn compare(&self, begun: &Path) -> Result<(), Failure> {
        let text = fs::read(begun).with_context(|| begun.display().to_string())?;
        let other: Origin = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged", begun.display()))
            .map_err(damaged)?;
        let with = |was: bool| if was { "with" } else { "without" };
        let difference = if other.fingerprint != self.origin.fingerprint {
            format!("its model was {}, not {}: other weights or files", other.model, self.origin.model)
        } else if other.raw != self.origin.raw {
            format!("it was begun {} --raw", with(other.raw))
        } else if other.exact_decode != self.origin.exact_decode {
            format!("it was begun {} --exact-decode", with(other.exact_decode))
        } else if other.precision != self.origin.precision {
            format!("it was begun with --precision {}, not {}", other.precision, self.origin.precision)
        } else {
            return Ok(());
        };
        let error = anyhow!("{} belongs to another run: {difference}", self.directory.display());
        Err(Failure::usage(error).hint("take the same again, or begin again with --restart"))
    }

    /// What tells inputs that are finished from those that are not.
    pub fn cursor(&self) -> Cursor {
        let parts: Vec<_> = (0..self.parts).map(|part| self.part(part)).collect();
        Cursor {
            parts: parts.into_iter(),
            records: Vec::new().into_iter(),
            dim: self.origin.dim,
            problem: None,
        }
    }

    /// Vectors that are finished.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Inputs that failed.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Takes the vectors of a batch.
    ///
    /// # Errors
    /// A part that cannot be written.
    pub fn push(&mut self, batch: Batch) -> Result<()> {
        batch.records.iter().for_each(|record| self.count(record));
        self.pending.push(batch);
        if self.pending.records.len() >= self.target.part_size || self.written.elapsed() >= INTERVAL {
            self.flush()?;
        }
        Ok(())
    }

    /// Brings what is pending to the disk as a part.
    ///
    /// # Errors
    /// A part that cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        if !self.pending.records.is_empty() {
            self.pending.write(&self.part(self.parts), self.origin.dim)?;
            self.pending = Part::default();
            self.parts += 1;
        }
        self.written = Instant::now();
        Ok(())
    }

    /// Makes the target of the parts, and removes them.
    ///
    /// # Errors
    /// A file that cannot be read or written; the parts are kept then.
    pub fn finish(mut self) -> Result<()> {
        self.flush()?;
        let (whole, names) = (self.directory.join("whole"), self.directory.join("whole-names"));
        let mut writer = self.writer(&whole, &names)?;
        for part in 0..self.parts {
            let Part { records, values } = Part::read(&self.part(part), self.origin.dim)?;
            let good = records.iter().filter(|record| record.error.is_none());
            for (record, vector) in good.zip(values.chunks_exact(self.origin.dim)) {
                writer.write(record, vector).with_context(|| whole.display().to_string())?;
            }
        }
        writer.finish().with_context(|| whole.display().to_string())?;
        // The names go first: where the target is new, they are.
        if self.target.format == Format::Npy {
            put(&names, &extended(&self.target.path, ".jsonl"))?;
        }
        put(&whole, &self.target.path)?;
        remove(&self.directory)
    }

    fn writer(&self, whole: &Path, names: &Path) -> Result<Box<dyn Writer>> {
        let dim = self.origin.dim;
        Ok(match self.target.format {
            Format::JsonLines => Box::new(JsonLines::create(whole)?),
            Format::Npy => Box::new(Npy::create(whole, names, self.rows, dim)?),
            Format::Parquet => Box::new(Parquet::create(whole, dim, &self.origin)?),
        })
    }

    fn part(&self, number: usize) -> PathBuf {
        self.directory.join(format!("part-{number:06}"))
    }

    fn count(&mut self, record: &Record) {
        match record.error {
            None => self.rows += 1,
            Some(_) => self.failed += 1,
        }
    }
}

/// Walks along the finished inputs of a run.
pub struct Cursor {
    parts: std::vec::IntoIter<PathBuf>,
    records: std::vec::IntoIter<Record>,
    dim: usize,
    problem: Option<Failure>,
}

impl Cursor {
    /// Whether an input, the next in order, is finished; breaks where the inputs are not those of the run.
    pub fn check(&mut self, kind: Kind, input: &str) -> ControlFlow<(), bool> {
        match self.next() {
            Ok(None) => ControlFlow::Continue(false),
            Ok(Some(record)) if record.kind == kind && record.input == input => ControlFlow::Continue(true),
            Ok(Some(record)) => self.stop(changed(&record.input, Some(input))),
            Err(failure) => self.stop(failure),
        }
    }

    /// # Errors
    /// What made the walk stop, or finished inputs that were not come across.
    pub fn end(mut self) -> Result<(), Failure> {
        match self.problem.take() {
            Some(failure) => Err(failure),
            None => self.next()?.map_or(Ok(()), |record| Err(changed(&record.input, None))),
        }
    }

    fn next(&mut self) -> Result<Option<Record>, Failure> {
        loop {
            if let Some(record) = self.records.next() {
                return Ok(Some(record));
            }
            let Some(part) = self.parts.next() else { return Ok(None) };
            self.records = read_records(&part, self.dim).map_err(damaged)?.into_iter();
        }
    }

    fn stop(&mut self, failure: Failure) -> ControlFlow<(), bool> {
        self.problem = Some(failure);
        ControlFlow::Break(())
    }
}

/// How a run goes on that had no room.
pub const GO_ON: &str = "the same command with --resume goes on where it stopped";

/// A run that would be lost.
pub(super) fn unfinished(directory: &Path, what: &str) -> Failure {
    let error = anyhow!("an unfinished run is in {} ({what})", directory.display());
    Failure::usage(error).hint("go on with --resume, or begin again with --restart")
}

/// The inputs are not those that the run was begun with.
pub(super) fn changed(expected: &str, got: Option<&str>) -> Failure {
    let got = got.map_or("nothing".to_owned(), |got| format!("{got:?}"));
    let error =
        anyhow!("the inputs are not those of the unfinished run: it had {:?} where now is {got}", expected);
    Failure::usage(error).hint("name the same inputs again, or begin again with --restart")
}

pub(super) fn damaged(error: anyhow::Error) -> Failure {
    Failure::usage(error).hint("begin again with --restart")
}

/// Of a target that is a Parquet file it can be told whether it was made with this model.
fn check_whole(target: &Target, origin: &Origin) -> Result<(), Failure> {
    if target.format != Format::Parquet {
        return Ok(());
    }
    let told = |key, ours: &str| parquet::metadata(&target.path, key).is_some_and(|other| other != ours);
    let difference = if told(parquet::FINGERPRINT, &origin.fingerprint) {
        Some("another model")
    } else if told(parquet::PRECISION, &origin.precision) {
        Some("another precision")
    } else {
        None
    };
    if let Some(difference) = difference {
        let error = anyhow!("{} is whole, but made with {difference}", target.path.display());
        return Err(Failure::usage(error).hint("remove it, or leave out --resume to replace it"));
    }
    Ok(())
}

/// Sees to it that no other process works at the same target.
pub(super) fn lock(directory: &Path, target: &Path) -> Result<File, Failure> {
    let file = File::create(directory.join(LOCK)).with_context(|| directory.display().to_string())?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Failure::usage(anyhow!("another process is writing {}", target.display())))
        }
        // Some file systems know no locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Brings a file to the disk and gives it its name.
pub(super) fn put(file: &Path, target: &Path) -> Result<()> {
    let moved = File::open(file).and_then(|open| open.sync_all()).and_then(|()| fs::rename(file, target));
    moved.with_context(|| target.display().to_string())
}

/// Removes the folder of a run, first what makes it one.
pub(super) fn remove(directory: &Path) -> Result<()> {
    remove_files(directory, |name| name == ORIGIN)?;
    remove_files(directory, |name| {
        name.starts_with("part-") || name.starts_with("whole") || name == "lines.jsonl" || name == LOCK
    })?;
    fs::remove_dir(directory).with_context(|| directory.display().to_string())
}

/// Removes the files in a folder whose names are of a kind.
pub(super) fn remove_files(directory: &Path, is_one: impl Fn(&str) -> bool) -> Result<()> {
    let removed = fs::read_dir(directory).and_then(|mut entries| {
        entries.try_for_each(|entry| {
            let entry = entry?;
            if is_one(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())
            } else {
                io::Result::Ok(())
            }
        })
    });
    removed.with_context(|| directory.display().to_string())
}
