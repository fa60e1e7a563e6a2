//! `ask`: a question about images, answered in the model's words or by one of a list.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use tuwen::{Ability, Answerer, Candidates, Error, Picture, Pixels, RankedAnswer, WritingOptions, Written};
use tuwen_data::image::ImageError;

use crate::arguments::Global;
use crate::console::Console;
use crate::explain;
use crate::failure::{Failure, Status};
use crate::images::ImageInputs;
use crate::labels::{clean, lists};
use crate::models::model_failure;
use crate::output::{Made, ResultsOptions, Shown};
use crate::pipeline::Work;
use crate::writing::{Text, WritingArguments, list_failure, shown, writing_failure};

/// Ranked answers that are shown to people.
const SHOWN: usize = 5;

/// Arguments of `ask`.
#[derive(Args)]
#[command(override_usage = "tuwen ask [OPTIONS] <IMAGE>... <QUESTION>")]
#[command(
    after_help = "The last argument is the question. Without options answers are written as the program does it that the model \
    is of: three beams of at most 10 tokens in Salesforce's, the most probable tokens in transformers. With a list the 128 \
    answers whose first tokens are the most probable are ranked, as for the published results; scores are their probabilities."
)]
pub struct Ask {
    #[command(flatten)]
    images: ImageInputs,
    /// Choose from these answers, separated by commas
    #[arg(long, value_name = "A,B,C")]
    answers: Option<String>,
    /// Choose from the answers of a file with one a line, or a .json file with a list
    #[arg(long, value_name = "FILE")]
    answers_file: Option<PathBuf>,
    /// Draw what each word of the question looks at in the image on the way to the answer (one image)
    #[arg(long, value_name = "FILE.png")]
    explain: Option<PathBuf>,
    /// How many answers of a list to give [default: 5, with --json all that were ranked]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    #[command(flatten)]
    writing: WritingArguments,
    #[command(flatten)]
    output: ResultsOptions,
}

#[derive(Serialize)]
struct Line {
    input: String,
    question: String,
    answers: Vec<Answer>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Written(Text),
    Ranked { text: String, score: f32 },
}

impl Shown for Line {
    fn shown(&self) -> String {
        let written = self.answers.iter().map(|answer| match answer {
            Answer::Written(text) => Some(text),
            Answer::Ranked { .. } => None,
        });
        match written.collect::<Option<Vec<_>>>() {
            Some(texts) => shown(&self.input, &texts),
            None => {
                let row = |answer: &Answer| match answer {
                    Answer::Ranked { text, score } => format!("\n{:7.2} %  {text}", 100.0 * score),
                    Answer::Written(_) => String::new(),
                };
                std::iter::once(self.input.clone()).chain(self.answers.iter().map(row)).collect()
            }
        }
    }
}

/// How answers come about.
enum Way {
    Written(WritingOptions),
    Ranked(Candidates),
}

/// Answers about images that are looked at together.
#[derive(Clone, Copy)]
struct Answers<'a> {
    answerer: Answerer<'a>,
    question: &'a str,
    way: &'a Way,
}

/// What came of one image.
enum Found {
    Written(Vec<Written>),
    Ranked(Vec<RankedAnswer>),
}

impl Work for Answers<'_> {
    type Output = Result<Vec<Found>, Failure>;

    fn decode(&self, bytes: &[u8]) -> Result<Picture, ImageError> {
        self.answerer.eye().decode(bytes)
    }

    fn prepare(&self, image: &Picture) -> Pixels {
        self.answerer.eye().prepare(image)
    }

    fn batch_size(&self) -> usize {
        self.answerer.eye().batch_size()
    }

    fn compute(&self, images: &[Pixels]) -> Self::Output {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let seen = self.answerer.look(images);
        let questions = vec![self.question; images.len()];
        Ok(match self.way {
            Way::Written(options) => {
                let written = self.answerer.write(&seen, &questions, options).map_err(writing_failure)?;
                written.into_iter().map(Found::Written).collect()
            }
            Way::Ranked(candidates) => {
                let ranked = self.answerer.rank(&seen, &questions, candidates).map_err(model_failure)?;
                ranked.into_iter().map(Found::Ranked).collect()
            }
        })
    }
}

impl Answers<'_> {
    /// The best answer about one image; nothing where none is written.
    fn best(&self, image: &Pixels) -> Result<String, Error> {
        let (seen, questions) = (self.answerer.look(std::slice::from_ref(image)), [self.question]);
        let best = match self.way {
            Way::Written(options) => {
                let written = self.answerer.write(&seen, &questions, options)?;
                written.into_iter().flatten().next().map(|written| written.text)
            }
            Way::Ranked(candidates) => {
                let ranked = self.answerer.rank(&seen, &questions, candidates)?;
                ranked.into_iter().flatten().next().map(|answer| answer.text)
            }
        };
        Ok(best.unwrap_or_default())
    }
}

/// Runs `ask`.
pub fn run(arguments: &Ask, global: &Global, console: &Console) -> Result<Status, Failure> {
    let (question, images) = arguments.question()?;
    images.check()?;
    arguments.output.check()?;
    let answers = arguments.answers(console)?;
    let model = global.load(Ability::Answer, console)?;
    let answerer = model.answerer().map_err(model_failure)?;
    for cut in answerer.truncated(&[&question]).map_err(model_failure)? {
        let start: String = question.chars().take(40).collect();
        let limit = answerer.question_limit();
        console.warn(format_args!(
            "warning: question of {} tokens cut to what the model reads, at most {limit} tokens: \"{start}...\"",
            cut.tokens
        ));
    }
    let options = arguments.writing.over(answerer.options(), || answerer.options());
    let settings = format!("{question:?} {answers:?} {options:?}, exact decode {}", images.exact_decode);
    let way = match answers {
        Some(answers) => {
            let read = answerer.candidates(&answers);
            Way::Ranked(read.map_err(|error| list_failure(error, &answers))?)
        }
        None => {
            answerer.check(&options).map_err(writing_failure)?;
            Way::Written(options)
        }
    };
    let work = Answers { answerer, question: &question, way: &way };
    if let Some(path) = &arguments.explain {
        let drawn = explain::to_file(path, &images, &model, |grounded, pixels| {
            Ok(vec![grounded.explain_answer(pixels, &question, &work.best(pixels)?)?])
        });
        drawn?;
        console.note(format_args!("what words look at is in {}", path.display()));
    }
    let file = arguments.output.is_file() || console.json;
    arguments.output.write(
        (&images, work),
        console,
        || Made::new(&model, settings),
        |input, found| Line {
            input: input.to_owned(),
            question: question.clone(),
            answers: arguments.found(found, file),
        },
    )
}

impl Ask {
    /// The question, which is the last argument, and the images before it.
    fn question(&self) -> Result<(String, ImageInputs), Failure> {
        let usage = |problem: String| {
            Failure::usage(anyhow!(problem))
                .hint("the last argument is the question: tuwen ask dog.jpg \"what is this?\"")
        };
        let (question, images) =
            self.images.split_last().ok_or_else(|| usage("there is no question".to_owned()))?;
        if Path::new(&question).exists() {
            return Err(usage(format!("there is no question: {} is a file or folder", question.display())));
        }
        let question = question.into_os_string().into_string();
        let question =
            question.map_err(|question| usage(format!("the question is not UTF-8: {question:?}")))?;
        if question.trim().is_empty() {
            return Err(usage("the question is empty".to_owned()));
        }
        Ok((question, images))
    }

    /// The list to choose from, if there is one.
    fn answers(&self, console: &Console) -> Result<Option<Vec<String>>, Failure> {
        if self.answers.is_none() && self.answers_file.is_none() {
            return Ok(None);
        }
        let mut given: Vec<String> = Vec::new();
        if let Some(answers) = &self.answers {
            given.extend(answers.split(',').map(str::to_owned));
        }
        if let Some(path) = &self.answers_file {
            given.extend(lists::read(path, None)?);
        }
        let answers = clean(&given, "answer", console);
        if answers.is_empty() {
            let hint = "give --answers yes,no or --answers-file FILE with one answer a line";
            return Err(Failure::usage(anyhow!("there are no answers to choose from")).hint(hint));
        }
        if self.writing.draws() {
            console.note("note: answers of a list are ranked, not drawn: options for drawing have no effect");
        }
        Ok(Some(answers))
    }

    fn found(&self, found: Found, all: bool) -> Vec<Answer> {
        match found {
            Found::Written(written) => self.writing.texts(written).into_iter().map(Answer::Written).collect(),
            Found::Ranked(ranked) => {
                let top = self.top.unwrap_or(if all { usize::MAX } else { SHOWN });
                let ranked = ranked.into_iter().take(top);
                ranked.map(|answer| Answer::Ranked { text: answer.text, score: answer.probability }).collect()
            }
        }
    }
}
