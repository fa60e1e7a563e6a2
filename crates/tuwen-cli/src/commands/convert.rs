//! `convert`: a model in the layout of another program.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use tuwen::convert::{Conversion, Written};
use tuwen::export::Target;
use tuwen::{Error, Opened};
use tuwen_tensor::checkpoint::StoredType;

use crate::arguments::Global;
use crate::console::{Console, MEGABYTE};
use crate::failure::{Failure, Status};
use crate::models::model_failure;

/// Arguments of `convert`.
#[derive(Args)]
pub struct Convert {
    /// The model: a directory, a checkpoint file, a hub id in the local cache, or a built-in name
    #[arg(value_name = "SRC")]
    source: String,
    /// The directory to write; for openai also a file: .pt for clip.load, .pth for a plain state dict; for salesforce a .pth
    #[arg(value_name = "DST")]
    destination: PathBuf,
    /// The program that is to load it
    #[arg(long, value_name = "PROGRAM")]
    to: Program,
    /// Element type of matrices; vectors stay exact
    #[arg(long, value_name = "TYPE", default_value = "keep")]
    dtype: Type,
    /// Write over what no conversion wrote
    #[arg(long)]
    force: bool,
}

/// Programs whose layout can be written.
#[derive(Clone, Copy, ValueEnum)]
enum Program {
    /// transformers, and what follows the Hugging Face hub
    Hf,
    /// openai/CLIP
    Openai,
    /// open_clip
    #[value(name = "open_clip")]
    OpenClip,
    /// salesforce/BLIP, LAVIS and salesforce/ALBEF
    Salesforce,
}

/// Element types of weights.
#[derive(Clone, Copy, ValueEnum)]
enum Type {
    Keep,
    F32,
    F16,
    Bf16,
}

/// Runs `convert`.
pub fn run(arguments: &Convert, global: &Global, console: &Console) -> Result<Status, Failure> {
    global.fetch(&arguments.source, console)?;
    let files = Opened::open(&arguments.source, &global.options()).map_err(model_failure)?;
    for note in files.notes() {
        console.note(format_args!("note: {note}"));
    }
    let conversion = Conversion {
        destination: &arguments.destination,
        target: arguments.to.target(),
        stored: arguments.dtype.stored(),
        force: arguments.force,
    };
    let prepared = conversion.prepare(&files).map_err(explain)?;
    let mut progress = console.progress(prepared.bytes() / MEGABYTE, "MB");
    let mut bytes = 0;
    let written = prepared.write(&mut |more| {
        let before = bytes / MEGABYTE;
        bytes += more;
        progress.advance(bytes / MEGABYTE - before);
    });
    drop(progress);
    // Here a file is in the way, not a model.
    let written = written.map_err(Failure::from)?;
    for note in &written.notes {
        console.note(format_args!("note: {note}"));
    }
    report(&written, arguments, console)?;
    Ok(Status::Done)
}

fn report(written: &Written, arguments: &Convert, console: &Console) -> Result<(), Failure> {
    if !console.json {
        return written.files.iter().try_for_each(|(path, bytes)| {
            let size = (*bytes as f64) / MEGABYTE as f64;
            console.print(format_args!("{}  {size:.1} MB", path.display()))
        });
    }
    let files: Vec<_> =
        written.files.iter().map(|(path, bytes)| json!({"path": path, "bytes": bytes})).collect();
    console.print(json!({
        "source": arguments.source,
        "destination": arguments.destination,
        "to": arguments.to.to_possible_value().map(|value| value.get_name().to_owned()),
        "tensors": written.tensors,
        "files": files,
        "notes": written.notes,
    }))
}

fn explain(error: Error) -> Failure {
    match error {
        Error::Destination { ref reason, .. } if reason.contains("no conversion wrote") => {
            Failure::usage(error).hint("give another directory, or --force to write over this one")
        }
        Error::Destination { ref reason, .. } if reason.contains("a file already") => {
            Failure::usage(error).hint("give another name, or --force to write over this one")
        }
        error @ (Error::Destination { .. } | Error::CannotSay { .. }) => Failure::usage(error),
        error => model_failure(error),
    }
}

impl Program {
    fn target(self) -> Target {
        match self {
            Self::Hf => Target::HuggingFace,
            Self::Openai => Target::OpenAi,
            Self::OpenClip => Target::OpenClip,
            Self::Salesforce => Target::Salesforce,
        }
    }
}

impl Type {
    fn stored(self) -> StoredType {
        match self {
            Self::Keep => StoredType::Keep,
            Self::F32 => StoredType::F32,
            Self::F16 => StoredType::F16,
            Self::Bf16 => StoredType::BF16,
        }
    }
}
