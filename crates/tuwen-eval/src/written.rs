//! Texts that a model writes about a data set, beside what people wrote: captions by image, answers by question.

use std::collections::HashMap;

use tuwen::{Answerer, Candidates, Captioner, Error, Picture, Pixels, SeenImages, WritingOptions, Written};
use tuwen_data::dataset::{Dataset, Question, Sample};

use crate::EvalError;
use crate::annotations::{
    CaptionPredictions, CaptionReferences, Keyed, QuestionTypes, VqaPredictions, VqaQuestion, VqaQuestions,
};
use crate::encode::{Chunk, each_chunk};

/// What was written, what people wrote, and samples that could not be read, with the reason.
#[derive(Clone, Debug)]
pub struct WrittenTexts<P, R> {
    /// By the model.
    pub predictions: P,
    /// By people.
    pub references: R,
    /// Not read.
    pub failed: Vec<String>,
    /// Images that come without what people wrote: they are left out.
    pub without: usize,
    /// Images whose key had occurred before: they have a number behind it.
    pub repeated: usize,
}

/// A name of its own for each sample.
#[derive(Default)]
struct Names {
    counts: HashMap<String, usize>,
    repeated: usize,
}

impl Names {
    fn of(&mut self, key: &str) -> String {
        let count = self.counts.entry(key.to_owned()).or_default();
        *count += 1;
        if *count == 1 {
            return key.to_owned();
        }
        self.repeated += 1;
        format!("{key} ({count})")
    }
}

/// How answers come about.
#[derive(Clone, Copy)]
pub enum Answering<'a> {
    /// In the model's words.
    Written(&'a WritingOptions),
    /// By a list.
    Ranked(&'a Candidates),
}

/// Which questions are asked, and how they are answered.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    /// How answers come about.
    pub way: Answering<'a>,
    /// Whether a question is to be asked.
    pub wanted: &'a dyn Fn(&Question) -> bool,
    /// By what questions are sorted whose type the data do not say.
    pub types: Option<&'a QuestionTypes>,
}

/// A caption for each image that has captions; `done` is told how many more samples were read.
///
/// # Errors
/// No image with captions can be read, or options that contradict themselves.
pub fn write_captions(
    captioner: &Captioner<'_>,
    options: &WritingOptions,
    model: &str,
    dataset: &dyn Dataset,
    done: &mut dyn FnMut(usize),
) -> Result<WrittenTexts<CaptionPredictions, CaptionReferences>, EvalError> {
    let (mut predictions, mut references) = (Vec::new(), Vec::new());
    let (mut names, mut without) = (Names::default(), 0);
    let prepare = |picture: &Picture| captioner.eye().prepare(picture);
    let failed = each_chunk(dataset, prepare, done, |Chunk { samples, images, .. }| {
        let count = samples.len();
        let described = samples.into_iter().zip(images).filter(|(sample, _)| !sample.texts.is_empty());
        let (samples, images): (Vec<Sample>, Vec<Pixels>) = described.unzip();
        without += count - samples.len();
        let written = captioner.caption(&images, options).map_err(model_error)?;
        for (sample, texts) in samples.into_iter().zip(written) {
            let name = names.of(&sample.key);
            predictions.push((name.clone(), first_text(texts)));
            references.push((name, sample.texts));
        }
        Ok(())
    })?;
    if references.is_empty() {
        return Err(nothing(dataset, &failed, "captions"));
    }
    Ok(WrittenTexts {
        predictions: Keyed::new(model, "image", predictions)?,
        references: Keyed::new(dataset.name(), "image", references)?,
        failed,
        without,
        repeated: names.repeated,
    })
}

/// An answer to each question that is to be asked. Ids are those of the samples with the number of the question.
///
/// # Errors
/// As [`write_captions`], of questions.
pub fn write_answers(
    answerer: &Answerer<'_>,
    Asking { way, wanted, types }: Asking<'_>,
    model: &str,
    dataset: &dyn Dataset,
    done: &mut dyn FnMut(usize),
) -> Result<WrittenTexts<VqaPredictions, VqaQuestions>, EvalError> {
    let (mut predictions, mut references) = (Vec::new(), Vec::new());
    let (mut names, mut without) = (Names::default(), 0);
    let prepare = |picture: &Picture| answerer.eye().prepare(picture);
    let failed = each_chunk(dataset, prepare, done, |Chunk { samples, images, .. }| {
        for (sample, image) in samples.into_iter().zip(images) {
            without += usize::from(sample.questions.is_empty());
            let name = names.of(&sample.key);
            let asked = sample.questions.into_iter().enumerate().filter(|(_, question)| wanted(question));
            let asked: Vec<(usize, Question)> = asked.collect();
            if asked.is_empty() {
                continue;
            }
            let seen = answerer.look(&[image]);
            let texts: Vec<&str> = asked.iter().map(|(_, question)| question.question.as_str()).collect();
            let answers = answers(answerer, way, &seen, &texts).map_err(model_error)?;
            for ((number, question), answer) in asked.into_iter().zip(answers) {
                let id = format!("{name}#{number}");
                predictions.push((id.clone(), answer));
                references.push((id, measured(question, types)));
            }
        }
        Ok(())
    })?;
    if references.is_empty() {
        return Err(nothing(dataset, &failed, "questions to ask"));
    }
    Ok(WrittenTexts {
        predictions: Keyed::new(model, "question", predictions)?,
        references: Keyed::new(dataset.name(), "question", references)?,
        failed,
        without,
        repeated: names.repeated,
    })
}

/// What an answer to a question is measured by.
fn measured(question: Question, types: Option<&QuestionTypes>) -> VqaQuestion {
    let Question { question, answers, answer_type, question_type } = question;
    let sorted = || types.map(|types| types.of(&question).to_owned());
    VqaQuestion { answers, answer_type, question_type: question_type.or_else(sorted) }
}

/// The best answer to each question about an image.
fn answers(
    answerer: &Answerer<'_>,
    way: Answering<'_>,
    image: &SeenImages,
    questions: &[&str],
) -> Result<Vec<String>, Error> {
    Ok(match way {
        Answering::Written(options) => {
            let written = answerer.write(image, questions, options)?;
            written.into_iter().map(first_text).collect()
        }
        Answering::Ranked(candidates) => {
            let ranked = answerer.rank(image, questions, candidates)?;
            ranked
                .into_iter()
                .map(|texts| texts.into_iter().next().map_or_else(String::new, |t| t.text))
                .collect()
        }
    })
}

/// The best of some texts.
fn first_text(texts: Vec<Written>) -> String {
    texts.into_iter().next().map_or_else(String::new, |written| written.text)
}

fn nothing(dataset: &dyn Dataset, failed: &[String], what: &str) -> EvalError {
    let data = dataset.name().to_owned();
    match failed.first() {
        Some(reason) => EvalError::NoImages { data, reason: reason.clone() },
        None => EvalError::Setting(format!("{data}: there are no {what} beside the images")),
    }
}

fn model_error(error: Error) -> EvalError {
    match error {
        Error::Generation(error) => EvalError::Setting(error.to_string()),
        error => EvalError::Model(error.to_string()),
    }
}
