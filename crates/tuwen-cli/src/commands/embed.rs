//! `embed`: images and texts to vectors.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use anyhow::anyhow;
use clap::Args;
use tuwen::{Ability, Embedder, Model};

use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::images::{ImageInputs, Images, stdin_twice};
use crate::interrupt::stop_on_interrupt;
use crate::labels::plural;
use crate::models::{model_failure, warn_of_cut};
use crate::output::{GO_ON, Line, Origin, OutputOptions, Run, Target};
use crate::pipeline::{Batch, Kind, Record, each_unseen};
use crate::texts::{TextInputs, Texts};

mod both;

/// Texts that are computed together.
const TEXTS: usize = 4096;

/// Arguments of `embed`.
#[derive(Args)]
pub struct Embed {
    #[command(flatten)]
    images: ImageInputs,
    #[command(flatten)]
    texts: TextInputs,
    /// Leave vectors at the length that the model gives them, instead of length 1
    #[arg(long)]
    raw: bool,
    /// Look at each image with each text, and give a vector of both together (BLIP and ALBEF)
    #[arg(long, conflicts_with = "output")]
    both: bool,
    #[command(flatten)]
    output: OutputOptions,
}

/// What is embedded, and with what.
struct Job<'a> {
    arguments: &'a Embed,
    console: &'a Console,
    model: &'a Model,
    embedder: Embedder<'a>,
    texts: Texts,
    images: Images,
}

/// Says of an input whether it was dealt with before; breaks where nothing shall be dealt with.
type Seen<'s> = dyn FnMut(Kind, &str) -> ControlFlow<(), bool> + Send + 's;

/// Takes what a batch gave; breaks where no more is wanted.
type Take<'t> = dyn FnMut(Batch) -> Result<ControlFlow<()>, Failure> + 't;

/// Runs `embed`.
pub fn run(arguments: &Embed, global: &Global, console: &Console) -> Result<Status, Failure> {
    let Embed { images, texts, raw, both, output } = arguments;
    if images.is_empty() && texts.is_empty() {
        let hint = "name images or folders, or give texts with --text";
        return Err(Failure::usage(anyhow!("there is nothing to embed")).hint(hint));
    }
    if images.uses_of_stdin() + texts.uses_of_stdin() > 1 {
        return Err(stdin_twice());
    }
    if *both {
        if images.is_empty() || texts.is_empty() {
            return Err(Failure::usage(anyhow!("--both takes images and texts")));
        }
        return Ok(Status::after(arguments.both(&global.load(Ability::EmbedBoth, console)?, console)?));
    }
    let target = output.target()?;
    let (texts, images) = (texts.open(images.null)?, images.open()?);
    let model = &global.load(Ability::EmbedImages, console)?;
    let embedder = if *raw { model.raw_embedder() } else { model.embedder() };
    let job = Job { arguments, console, model, embedder, texts, images };
    let failed = match target {
        Some(target) => job.write(target).map_err(|failure| failure.hint_if_full(GO_ON))?,
        None => job.print()?,
    };
    Ok(Status::after(failed))
}

impl Job<'_> {
    /// Prints vectors as they come, and returns how many inputs failed.
    fn print(self) -> Result<usize, Failure> {
        let console = self.console;
        self.embed(&mut |_, _| ControlFlow::Continue(false), &mut |batch| {
            batch.rows().try_for_each(|(record, vector)| print(record, vector, console))?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Writes vectors to a file, and returns how many inputs failed.
    fn write(self, target: Target) -> Result<usize, Failure> {
        let console = self.console;
        let origin = Origin {
            model: self.model.name().to_owned(),
            fingerprint: self.model.fingerprint(),
            raw: self.arguments.raw,
            exact_decode: self.arguments.images.exact_decode,
            precision: self.embedder.precision().to_string(),
            dim: self.embedder.dim(),
        };
        let Some(mut run) = Run::open(target, origin, console)? else {
            console.note(
                "note: the output is whole already, nothing was done; leave out --resume to replace it",
            );
            return Ok(0);
        };
        let stop = stop_on_interrupt()?;
        let mut cursor = run.cursor();
        self.embed(&mut |kind, input| cursor.check(kind, input), &mut |batch| {
            run.push(batch)?;
            let stopped = stop.load(Ordering::Relaxed);
            Ok(if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if stop.load(Ordering::Relaxed) {
            return Err(interrupted(run));
        }
        if let Err(failure) = cursor.end() {
            run.flush()?;
            return Err(failure);
        }
        let (rows, failed) = (run.rows(), run.failed());
        run.finish()?;
        let what = format!(
            "{rows} vector{}, {failed} input{} failed",
            plural(rows as usize),
            plural(failed as usize)
        );
        console.note(what);
        Ok(failed as usize)
    }

    /// Embeds the texts and then the images.
    fn embed(self, seen: &mut Seen<'_>, take: &mut Take<'_>) -> Result<usize, Failure> {
        let Self { arguments, console, model, embedder, mut texts, images } = self;
        let mut failed = 0;
        while let Some(batch) = next_texts(&mut texts, seen, model, embedder, console)? {
            failed += batch.records.iter().filter(|record| record.error.is_some()).count();
            if take(batch)?.is_break() {
                return Ok(failed);
            }
        }
        if arguments.images.is_empty() {
            return Ok(failed);
        }
        let mut seen = |input: &str| seen(Kind::Image, input);
        Ok(failed + each_unseen(&arguments.images, images, embedder, console, &mut seen, take)?)
    }
}

/// The vectors of the next texts that were not seen before; none if nothing is left.
fn next_texts(
    texts: &mut Texts,
    seen: &mut Seen<'_>,
    model: &Model,
    embedder: Embedder<'_>,
    console: &Console,
) -> Result<Option<Batch>, Failure> {
    let (mut records, mut good) = (Vec::new(), Vec::new());
    while records.len() < TEXTS
        && let Some((input, text)) = texts.next()
    {
        match seen(Kind::Text, &input) {
            ControlFlow::Continue(false) => {}
            ControlFlow::Continue(true) => continue,
            ControlFlow::Break(()) => return Ok(None),
        }
        let error = match text {
            Ok(text) => {
                good.push(text);
                None
            }
            Err(error) => {
                console.warn(format_args!("{input}: {error}"));
                Some(error.to_string())
            }
        };
        records.push(Record { input, kind: Kind::Text, error });
    }
    if records.is_empty() {
        return Ok(None);
    }
    let embedded = embedder.texts(&good).map_err(model_failure)?;
    warn_of_cut(&good, &embedded.truncated, model, console);
    Ok(Some(Batch { records, computed: embedded.embeddings }))
}

/// Keeps what is finished, and says how to go on.
fn interrupted(mut run: Run) -> Failure {
    if let Err(error) = run.flush() {
        return error.into();
    }
    let rows = run.rows();
    Failure::from(anyhow!("interrupted after {rows} vector{}", plural(rows as usize)))
        .hint("go on with the same command and --resume")
}

fn print(record: &Record, vector: &[f32], console: &Console) -> Result<(), Failure> {
    if console.json {
        return console.print(serde_json::to_string(&Line::new(record, vector))?);
    }
    console.print(format_args!("{}: {}", record.input, shown(vector)))
}

/// The beginning of a vector.
fn shown(vector: &[f32]) -> String {
    /// Numbers that fit into a line with the name.
    const SHOWN: usize = 6;
    let first: Vec<String> = vector.iter().take(SHOWN).map(|value| format!("{value:.4}")).collect();
    let more = if vector.len() > SHOWN { ", ..." } else { "" };
    format!("{} numbers [{}{more}]", vector.len(), first.join(", "))
}
