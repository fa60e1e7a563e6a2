//! `eval vqa`: answers against what people answered, by the rules of the VQA challenge.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::json;
use tuwen::Ability;
use tuwen_data::dataset::Question;
use tuwen_eval::annotations::{
    QuestionTypes, VqaPredictions, VqaQuestions, questions, vqa_predictions, vqa_questions,
};
use tuwen_eval::suites::{self, Answered};
use tuwen_eval::{Answering, Asking, write_answers};

use super::by_model::{ByModel, tell};
use super::{Expectations, Report, eval_failure, stem, text_failure};
use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::labels::{clean, lists};
use crate::lines::Lines;
use crate::models::model_failure;
use crate::writing::{list_failure, writing_failure};

/// Arguments of `eval vqa`.
#[derive(Args)]
#[command(
    after_help = "accuracy is that of the official program, which normalises answers only where people disagree; \
    accuracy_normalized normalises all. Where types are known, answer_type:KIND and question_type:KIND have one each."
)]
pub struct Vqa {
    /// Images with questions, which the model answers: a folder, .tar files, Parquet files, or VQA's annotations with --questions
    #[arg(value_name = "DATA", conflicts_with_all = ["predictions", "annotations"])]
    data: Option<PathBuf>,
    /// What was predicted: [{"question_id", "answer"}, ...]
    #[arg(long, value_name = "FILE", required_unless_present = "data", requires = "annotations")]
    predictions: Option<PathBuf>,
    /// What people answered: VQA's annotations, or a list of {"question_id", "answers"}
    #[arg(long, value_name = "FILE", requires = "predictions")]
    annotations: Option<PathBuf>,
    /// Let the model choose from the answers of a file with one a line, or a .json file with a list
    #[arg(long, value_name = "FILE", requires = "data")]
    answers_file: Option<PathBuf>,
    /// Ask only questions that have an answer in the list
    #[arg(long, requires = "answers_file")]
    answerable: bool,
    #[command(flatten)]
    model: ByModel,
    /// VQA's file of the questions to which annotations belong
    #[arg(long, value_name = "FILE")]
    questions: Option<PathBuf>,
    /// Beginnings of questions, one a line, by which those without a type are sorted
    #[arg(long, value_name = "FILE")]
    question_types: Option<PathBuf>,
    /// Leave out questions without a prediction instead of refusing
    #[arg(long)]
    partial: bool,
    /// Write the accuracy of each answer to a .jsonl file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    expectations: Expectations,
}

/// Bytes of a list of question types at most.
const LARGEST: u64 = 1 << 20;

impl Vqa {
    pub fn run(&self, global: &Global, console: &Console) -> Result<Status, Failure> {
        Lines::check(self.output.as_deref())?;
        let (Some(predictions), Some(annotations)) = (&self.predictions, &self.annotations) else {
            return self.by_model(global, console);
        };
        let (name, data) = (stem(predictions), stem(annotations));
        let predictions = vqa_predictions(predictions).map_err(text_failure)?;
        let mut annotations = vqa_questions(annotations).map_err(text_failure)?;
        self.sort(&mut annotations)?;
        self.measure((&predictions, &annotations), (&name, data, 0), console)
    }

    /// Lets the model answer the questions of a data set, and measures what it answers.
    fn by_model(&self, global: &Global, console: &Console) -> Result<Status, Failure> {
        let (path, dataset) = self.model.open(self.data.as_deref(), self.questions.as_deref())?;
        let types = self.types()?;
        let list = match &self.answers_file {
            Some(path) => Some(clean(&lists::read(path, None)?, "answer", console)),
            None => None,
        };
        let model = global.load(Ability::Answer, console)?;
        let answerer = model.answerer().map_err(model_failure)?;
        let options = self.model.writing.over(answerer.options(), || answerer.options());
        answerer.check(&options).map_err(writing_failure)?;
        let read = |list: &[String]| answerer.candidates(list).map_err(|error| list_failure(error, list));
        let candidates = list.as_deref().map(read).transpose()?;
        let way = candidates.as_ref().map_or(Answering::Written(&options), Answering::Ranked);
        let known: HashSet<&str> = list.iter().flatten().map(String::as_str).collect();
        let wanted = |question: &Question| {
            !self.answerable || question.answers.iter().any(|answer| known.contains(answer.as_str()))
        };
        let mut progress = console.progress(dataset.len() as u64, "images");
        let asking = Asking { way, wanted: &wanted, types: types.as_ref() };
        let written = write_answers(&answerer, asking, model.name(), dataset.as_ref(), &mut |count| {
            progress.advance(count as u64);
        });
        drop(progress);
        let written = written.map_err(eval_failure)?;
        tell(&written, "questions", console);
        self.model.save(&written.predictions, ["question_id", "answer"])?;
        let failed = written.failed.len();
        self.measure((&written.predictions, &written.references), (model.name(), stem(path), failed), console)
    }

    /// Measures answers, from a file or from a model, of which `failed` images could not be read.
    fn measure(
        &self,
        (predictions, annotations): (&VqaPredictions, &VqaQuestions),
        (model, data, failed): (&str, String, usize),
        console: &Console,
    ) -> Result<Status, Failure> {
        let found = suites::vqa(predictions, annotations, self.partial).map_err(text_failure)?;
        say(&found, console);
        if let Some(path) = &self.output {
            Lines::write(Some(path), console, |lines| write_items(&found, lines))?;
        }
        let metrics = found.scores.metrics;
        let report = Report { suite: "vqa", data, model: model.to_owned(), metrics };
        report.print(&self.expectations.expected, failed, console)
    }

    /// Checks annotations against the questions, and sorts by their types.
    fn sort(&self, annotations: &mut VqaQuestions) -> Result<(), Failure> {
        let types = self.types()?;
        let Some(path) = &self.questions else {
            let alone = "--question-types sorts questions by their texts: add --questions";
            return if types.is_some() { Err(Failure::usage(anyhow!(alone))) } else { Ok(()) };
        };
        let texts = questions(path).map_err(text_failure)?;
        texts.pair(annotations, false).map_err(text_failure)?;
        match types {
            Some(types) => types.apply(annotations, &texts).map_err(text_failure),
            None => Ok(()),
        }
    }

    /// The list of beginnings, if one is given.
    fn types(&self) -> Result<Option<QuestionTypes>, Failure> {
        let Some(path) = &self.question_types else { return Ok(None) };
        let lines = tuwen_data::files::read_text(path, LARGEST);
        let lines =
            lines.with_context(|| format!("cannot read {}", path.display())).map_err(Failure::usage)?;
        if lines.trim().is_empty() {
            return Err(Failure::usage(anyhow!("{}: no question type", path.display())));
        }
        Ok(Some(QuestionTypes::new(&lines)))
    }
}

fn say(found: &Answered, console: &Console) {
    let total = found.questions.len();
    console.note(format_args!("{total} questions measured"));
    if found.unpredicted > 0 {
        console.warn(format_args!("{} questions have no prediction and are left out", found.unpredicted));
    }
    if found.empty > 0 {
        console.warn(format_args!("{} of {total} answers are empty", found.empty));
    }
}

fn write_items(found: &Answered, lines: &mut Lines<'_>) -> Result<(), Failure> {
    for ((id, item), accuracy) in found.questions.iter().zip(&found.items).zip(&found.scores.items) {
        let line = json!({"question_id": id, "answer": item.prediction, "accuracy": 100.0 * accuracy});
        lines.put(&line, ToString::to_string)?;
    }
    Ok(())
}
