//! `caption`: what is to be seen in images, in words.

use clap::Args;
use serde::Serialize;
use tuwen::{Ability, Captioner, Picture, Pixels, WritingOptions, Written};
use tuwen_data::image::ImageError;

use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::images::{self, ImageInputs};
use crate::models::model_failure;
use crate::output::{Made, ResultsOptions, Shown};
use crate::pipeline::Work;
use crate::writing::{Text, WritingArguments, shown, writing_failure};

/// Arguments of `caption`.
#[derive(Args)]
#[command(group = images::required())]
#[command(
    after_help = "Without options captions are written as the program does it that the model is of: three beams of 5 to 20 \
    tokens after the prompt \"a picture of \" in Salesforce's, the most probable tokens in transformers. The score is that of \
    the beam (of what was not searched for, the mean log probability of its tokens)."
)]
pub struct Caption {
    #[command(flatten)]
    images: ImageInputs,
    /// What every caption begins with [default: that of the model's program]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    #[command(flatten)]
    writing: WritingArguments,
    #[command(flatten)]
    output: ResultsOptions,
}

#[derive(Serialize)]
struct Line {
    input: String,
    captions: Vec<Text>,
}

impl Shown for Line {
    fn shown(&self) -> String {
        shown(&self.input, &self.captions.iter().collect::<Vec<_>>())
    }
}

/// Captions for images that are looked at together.
#[derive(Clone, Copy)]
struct Captions<'a> {
    captioner: Captioner<'a>,
    options: &'a WritingOptions,
}

impl Work for Captions<'_> {
    type Output = Result<Vec<Vec<Written>>, Failure>;

    fn decode(&self, bytes: &[u8]) -> Result<Picture, ImageError> {
        self.captioner.eye().decode(bytes)
    }

    fn prepare(&self, image: &Picture) -> Pixels {
        self.captioner.eye().prepare(image)
    }

    fn batch_size(&self) -> usize {
        self.captioner.eye().batch_size()
    }

    fn compute(&self, images: &[Pixels]) -> Self::Output {
        self.captioner.caption(images, self.options).map_err(writing_failure)
    }
}

/// Runs `caption`.
pub fn run(arguments: &Caption, global: &Global, console: &Console) -> Result<Status, Failure> {
    let Caption { images, prompt, writing, output } = arguments;
    images.check()?;
    output.check()?;
    let model = global.load(Ability::Caption, console)?;
    let captioner = model.captioner().map_err(model_failure)?;
    let mut options = writing.over(captioner.options(), || captioner.nucleus(1.0, 0));
    if let Some(prompt) = prompt {
        options.prompt.clone_from(prompt);
    }
    captioner.check(&options).map_err(writing_failure)?;
    let work = Captions { captioner, options: &options };
    let settings = || format!("{options:?}, exact decode {}", images.exact_decode);
    output.write(
        (images, work),
        console,
        || Made::new(&model, settings()),
        |input, written| Line { input: input.to_owned(), captions: writing.texts(written) },
    )
}
