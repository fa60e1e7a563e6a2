//! `bench`: how long the stages of a model take, and how far each is from what the machine can do.

mod captions;
mod clock;
mod grounded;
mod line;
mod prepare;
mod process;
mod roofline;
mod session;
mod stage;
mod start_up;
mod towers;
mod train_step;
mod work;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tuwen::{Ability, Precision};

use crate::arguments::{self, Arithmetic, Global};
use crate::console::Console;
use crate::failure::{Failure, Status};
use session::Session;
use stage::Stage;

/// The photograph that is decoded, resized and embedded unless another is given.
const PHOTOGRAPH: &[u8] = include_bytes!("../../../../../examples/photos/astronaut.jpg");

/// Arguments of `bench`.
#[derive(Args)]
#[command(after_long_help = "\
STAGES: decode (a JPEG to pixels) and resize (pixels to the input of the model), one image on each thread at once; \
encode_image; encode_text (64 captions, each at about its own length); train_step (a contrastive step of a small CLIP: 64 \
pixels, patch 8, width 256, 6 and 4 layers, context 32, vocabulary 8192, batch 128, AdamW); start_up (a process from its start \
to its first embedding). Of models that write captions: caption_first_token (from the pixels of images to the first token of \
each caption, which is encode_image and a step of the decoder) and caption_token (each of the 19 tokens after it, a step for all \
captions of the batch), the most probable tokens; and both with _beams3, by a search of three beams.

FIGURES: the time is the median of runs that fill SECONDS. The peak memory is that of the process since the limits of the \
machine were measured, earlier stages included: name a single stage to know its own. The roofline is the share of the limit \
that was reached. The limit is the longer of two times: for the operations, at the highest rate of the machine in that precision, \
and for the bytes that have to be read at least, at the rate at which so many are read.")]
pub struct Bench {
    /// The model (as for --model)
    #[arg(value_name = "MODEL")]
    subject: Option<String>,
    /// Images that are encoded or captioned together
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,16", value_parser = batch)]
    batch: Vec<usize>,
    /// What to measure [default: all that the model has]
    #[arg(long, value_name = "STAGE", value_delimiter = ',', value_enum)]
    stage: Vec<Stage>,
    /// Arithmetic of the network: f32, bf16, int8, auto, or several of them
    #[arg(id = "precision", long, value_name = "PRECISION", value_delimiter = ',', default_value = "f32")]
    #[arg(value_parser = arguments::precision)]
    precision: Vec<Arithmetic>,
    /// How long to measure each
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// The photograph that is decoded, resized and embedded [default: one of 512 by 512 pixels]
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

fn batch(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(batch @ 1..=4096) => Ok(batch),
        _ => Err("a batch is a number from 1 to 4096".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a time is a number of seconds from 0 to 3600".to_owned()),
    }
}

/// Runs `bench`.
pub fn run(arguments: &Bench, global: &Global, console: &Console) -> Result<Status, Failure> {
    let model = arguments.subject.as_deref().unwrap_or(global.model(Ability::Compare));
    global.fetch(model, console)?;
    let photograph = match &arguments.image {
        Some(path) => tuwen_data::image::read(path)
            .with_context(|| format!("{}: cannot be read", path.display()))
            .map_err(Failure::usage)?,
        None => PHOTOGRAPH.to_vec(),
    };
    let precisions: Vec<Precision> =
        arguments.precision.iter().map(|precision| precision.precision()).collect();
    Session::new(arguments, global, console, model, photograph, &precisions)?.run(&precisions)?;
    Ok(Status::Done)
}
