//! Results a line each: to stdout, or as JSON to a file by a run that can be killed at any moment and go on.
//!
//! Finished lines lie in a folder beside the target, in the order of the inputs; those of inputs that failed say why. At the
//! end the good ones become the target, which appears as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Take, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tuwen::Model;
use tuwen_tensor::checkpoint::write_atomically;

use super::extended;
use super::run::{GO_ON, INTERVAL, ORIGIN, changed, damaged, lock, put, remove, remove_files, unfinished};
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::images::{ImageInputs, Images};
use crate::interrupt::stop_on_interrupt;
use crate::labels::plural;
use crate::lines::Lines;
use crate::pipeline::{Batch, Record, Work, each_unseen};

/// The file of finished lines.
const LINES: &str = "lines.jsonl";

/// Where lines go.
#[derive(Args)]
pub struct ResultsOptions {
    /// Write JSON lines to a file, which appears when it is whole
    #[arg(long, value_name = "FILE.jsonl")]
    output: Option<PathBuf>,
    /// Go on with the unfinished run that was writing --output
    #[arg(long, requires = "output")]
    resume: bool,
    /// Forget the unfinished run that was writing --output, and begin again
    #[arg(long, requires = "output", conflicts_with = "resume")]
    restart: bool,
}

/// What lines come from: all but the model's name has to be the same when a run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// What the model was called.
    pub model: String,
    /// What tells the model from others.
    pub fingerprint: String,
    /// What the network multiplied in.
    pub precision: String,
    /// Everything else that decides the lines.
    pub settings: String,
}

impl Made {
    /// By a model, with settings in whatever words.
    pub fn new(model: &Model, settings: String) -> Self {
        Self {
            model: model.name().to_owned(),
            fingerprint: model.fingerprint(),
            precision: model.precision().to_string(),
            settings,
        }
    }
}

/// What becomes a line: what was computed of an image.
pub trait Shown: Serialize {
    /// How it looks to people.
    fn shown(&self) -> String;
}

impl ResultsOptions {
    /// Refuses the name of a file that would not tell what is in it.
    ///
    /// # Errors
    /// An ending other than `.jsonl`.
    pub fn check(&self) -> Result<(), Failure> {
        Lines::check(self.output.as_deref())
    }

    /// Whether lines go to a file.
    pub fn is_file(&self) -> bool {
        self.output.is_some()
    }

    /// Puts a line for each image, and says how the run ends. `made` is asked only where lines go to a file.
    ///
    /// # Errors
    /// Those of the work, and what cannot be written.
    pub fn write<T, L: Shown, W: Work<Output = Result<Vec<T>, Failure>>>(
        &self,
        (images, work): (&ImageInputs, W),
        console: &Console,
        made: impl FnOnce() -> Made,
        line: impl Fn(&str, T) -> L,
    ) -> Result<Status, Failure> {
        let opened = images.open()?;
        let Some(path) = &self.output else {
            let failed =
                each_unseen(images, opened, work, console, &mut |_| ControlFlow::Continue(false), |batch| {
                    let lines = lines_of(batch, &line)?;
                    lines
                        .iter()
                        .flatten()
                        .try_for_each(|line| Lines::Console(console).put(line, Shown::shown))?;
                    Ok(ControlFlow::Continue(()))
                })?;
            return Ok(Status::after(failed));
        };
        let written = self.write_file(path, (images, opened, work), console, made, line);
        written.map_err(|failure| failure.hint_if_full(GO_ON))
    }

    fn write_file<T, L: Shown, W: Work<Output = Result<Vec<T>, Failure>>>(
        &self,
        path: &Path,
        (images, opened, work): (&ImageInputs, Images, W),
        console: &Console,
        made: impl FnOnce() -> Made,
        line: impl Fn(&str, T) -> L,
    ) -> Result<Status, Failure> {
        let Some(mut run) = Run::open(path.to_owned(), self, &made(), console)? else {
            console.note(
                "note: the output is whole already, nothing was done; leave out --resume to replace it",
            );
            return Ok(Status::Done);
        };
        let stop = stop_on_interrupt()?;
        let mut cursor = run.cursor()?;
        each_unseen(images, opened, work, console, &mut |input| cursor.check(input), |batch| {
            lines_of(batch, &line)?.iter().try_for_each(|line| run.push(line))?;
            run.flush()?;
            Ok(if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        run.end(cursor, stop.load(Ordering::Relaxed), console)
    }
}

/// A line for each input of a batch; of those that failed, what is known of them.
fn lines_of<T, L>(
    batch: Batch<Result<Vec<T>, Failure>>,
    line: impl Fn(&str, T) -> L,
) -> Result<Vec<Result<L, Record>>, Failure> {
    let mut computed = batch.computed?.into_iter();
    let lines = batch.records.into_iter().map(|record| match record.error {
        Some(_) => Err(record),
        None => computed.next().map(|computed| line(&record.input, computed)).ok_or(record),
    });
    Ok(lines.collect())
}

/// A run and what it has finished.
struct Run {
    target: PathBuf,
    directory: PathBuf,
    /// Held for as long as the process lives.
    _lock: File,
    out: BufWriter<File>,
    synced: Instant,
    rows: usize,
    failed: usize,
}

/// What a finished line says of its input.
#[derive(Deserialize)]
struct Done {
    input: String,
    error: Option<String>,
}

impl Run {
    /// Begins a run or takes up an unfinished one; none where the target is whole and nothing could go on.
    fn open(
        target: PathBuf,
        options: &ResultsOptions,
        made: &Made,
        console: &Console,
    ) -> Result<Option<Self>, Failure> {
        let directory = extended(&target, ".part");
        if options.resume && target.exists() && !directory.join(ORIGIN).exists() {
            if directory.exists() {
                remove(&directory)?;
            }
            return Ok(None);
        }
        let create =
            fs::create_dir(&directory).or_else(|error| if directory.is_dir() { Ok(()) } else { Err(error) });
        create.with_context(|| directory.display().to_string()).map_err(Failure::usage)?;
        let lock = lock(&directory, &target)?;
        let (begun, lines) = (directory.join(ORIGIN), directory.join(LINES));
        let has_lines = begun.exists() && fs::metadata(&lines).is_ok_and(|lines| lines.len() > 0);
        if has_lines && options.resume {
            compare(&begun, made)?;
        } else if has_lines && !options.restart {
            return Err(unfinished(&directory, "lines"));
        } else {
            remove_files(&directory, |name| name == ORIGIN)?;
            remove_files(&directory, |name| name == LINES)?;
            write_atomically(&begun, |out| Ok(serde_json::to_writer_pretty(out, made)?))?;
        }
        let file = OpenOptions::new().create(true).read(true).append(true).open(&lines);
        let file = file.with_context(|| lines.display().to_string())?;
        let (out, synced) = (BufWriter::new(file), Instant::now());
        let mut run = Self { target, directory, _lock: lock, out, synced, rows: 0, failed: 0 };
        run.take_up(console)?;
        Ok(Some(run))
    }

    /// Counts what is finished, and cuts off what was being written when the run was killed.
    fn take_up(&mut self, console: &Console) -> Result<(), Failure> {
        let file = self.out.get_mut();
        let mut reader = BufReader::new(&*file);
        let (mut whole, mut line) = (0, Vec::new());
        let mut done = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            whole += line.len() as u64;
            let entry: Done = serde_json::from_slice(&line)
                .with_context(|| format!("{} is damaged", self.directory.join(LINES).display()))
                .map_err(damaged)?;
            done.push(entry.error.map(|error| format!("{}: {error}", entry.input)));
            line.clear();
        }
        file.set_len(whole).with_context(|| self.directory.join(LINES).display().to_string())?;
        for failed in done {
            match failed {
                Some(reason) => {
                    self.failed += 1;
                    console.warn(reason);
                }
                None => self.rows += 1,
            }
        }
        if self.rows > 0 {
            console.note(format_args!("going on after {} lines", self.rows));
        }
        Ok(())
    }

    fn cursor(&self) -> Result<Cursor, Failure> {
        let mut file = self.out.get_ref().try_clone()?;
        let end = file.seek(SeekFrom::End(0))?;
        let file = File::open(self.directory.join(LINES))?;
        Ok(Cursor { lines: BufReader::new(file).take(end), problem: None })
    }

    fn push<L: Serialize>(&mut self, line: &Result<L, Record>) -> Result<()> {
        let written = match line {
            Ok(line) => {
                self.rows += 1;
                serde_json::to_writer(&mut self.out, line)
            }
            Err(record) => {
                self.failed += 1;
                serde_json::to_writer(&mut self.out, record)
            }
        };
        let written = written.map_err(io::Error::from).and_then(|()| self.out.write_all(b"\n"));
        written.with_context(|| self.lines())
    }

    /// Where finished lines are.
    fn lines(&self) -> String {
        self.directory.join(LINES).display().to_string()
    }

    /// Hands what is pending to the system, and now and then to the disk.
    fn flush(&mut self) -> Result<()> {
        self.out.flush().with_context(|| self.lines())?;
        if self.synced.elapsed() >= INTERVAL {
            self.out.get_ref().sync_data().with_context(|| self.lines())?;
            self.synced = Instant::now();
        }
        Ok(())
    }

    /// Makes the target, or keeps what is finished.
    fn end(mut self, cursor: Cursor, stopped: bool, console: &Console) -> Result<Status, Failure> {
        self.flush()?;
        if stopped {
            let error = anyhow!("interrupted after {} line{}", self.rows, plural(self.rows));
            return Err(Failure::from(error).hint("go on with the same command and --resume"));
        }
        cursor.end()?;
        let whole = self.directory.join("whole");
        if self.failed == 0 {
            fs::rename(self.directory.join(LINES), &whole).with_context(|| self.lines())?;
        } else {
            self.copy_good(&whole).with_context(|| whole.display().to_string())?;
        }
        put(&whole, &self.target)?;
        remove(&self.directory)?;
        console.note(format_args!(
            "{} line{}, {} input{} failed",
            self.rows,
            plural(self.rows),
            self.failed,
            plural(self.failed)
        ));
        Ok(Status::after(self.failed))
    }

    fn copy_good(&self, whole: &Path) -> Result<()> {
        let mut out = BufWriter::new(File::create(whole)?);
        for line in BufReader::new(File::open(self.directory.join(LINES))?).lines() {
            let line = line?;
            let value: Value = serde_json::from_str(&line)?;
            if value.get("error").is_none() {
                writeln!(out, "{line}")?;
            }
        }
        Ok(out.flush()?)
    }
}

/// Walks along the finished inputs of a run.
struct Cursor {
    lines: Take<BufReader<File>>,
    problem: Option<Failure>,
}

impl Cursor {
    /// Whether an input, the next in order, is finished; breaks where the inputs are not those of the run.
    fn check(&mut self, input: &str) -> ControlFlow<(), bool> {
        match self.next() {
            Ok(None) => ControlFlow::Continue(false),
            Ok(Some(done)) if done == input => ControlFlow::Continue(true),
            Ok(Some(done)) => self.stop(changed(&done, Some(input))),
            Err(failure) => self.stop(failure),
        }
    }

    fn end(mut self) -> Result<(), Failure> {
        match self.problem.take() {
            Some(failure) => Err(failure),
            None => self.next()?.map_or(Ok(()), |done| Err(changed(&done, None))),
        }
    }

    fn next(&mut self) -> Result<Option<String>, Failure> {
        let mut line = Vec::new();
        if self.lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let done: Done = serde_json::from_slice(&line).map_err(|error| damaged(error.into()))?;
        Ok(Some(done.input))
    }

    fn stop(&mut self, failure: Failure) -> ControlFlow<(), bool> {
        self.problem = Some(failure);
        ControlFlow::Break(())
    }
}

/// Compares what an unfinished run belongs to.
fn compare(begun: &Path, made: &Made) -> Result<(), Failure> {
    let text = fs::read(begun).with_context(|| begun.display().to_string())?;
    let other: Made = serde_json::from_slice(&text)
        .with_context(|| format!("{} is damaged", begun.display()))
        .map_err(damaged)?;
    let difference = if other.fingerprint != made.fingerprint {
        format!("its model was {}, not {}: other weights or files", other.model, made.model)
    } else if other.precision != made.precision {
        format!("it was begun with --precision {}, not {}", other.precision, made.precision)
    } else if other.settings != made.settings {
        "it was begun with other options".to_owned()
    } else {
        return Ok(());
    };
    let directory = begun.parent().unwrap_or(begun).display();
    let error = anyhow!("{directory} belongs to another run: {difference}");
    Err(Failure::usage(error).hint("take the same again, or begin again with --restart"))
}
