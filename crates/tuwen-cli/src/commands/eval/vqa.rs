//! `eval vqa`: answers against what people answered, by the rules of the VQA challenge.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::json;
use tuwen_eval::annotations::{
    QuestionTypes, VqaPredictions, VqaQuestions, questions, vqa_predictions, vqa_questions,
};
use tuwen_eval::suites::{self, Answered};

use super::{Expectations, Report, stem, text_failure};
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::lines::Lines;

/// Arguments of `eval vqa`.
#[derive(Args)]
#[command(
    after_help = "accuracy is that of the official program, which normalises answers only where people disagree; \
    accuracy_normalized normalises all. Where types are known, answer_type:KIND and question_type:KIND have one each."
)]
pub struct Vqa {
    /// What was predicted: [{"question_id", "answer"}, ...]
    #[arg(long, value_name = "FILE")]
    predictions: PathBuf,
    /// What people answered: VQA's annotations, or a list of {"question_id", "answers"}
    #[arg(long, value_name = "FILE")]
    annotations: PathBuf,
    /// The questions, which have to be those of the annotations
    #[arg(long, value_name = "FILE")]
    questions: Option<PathBuf>,
    /// Beginnings of questions, one a line, by which those without a type are sorted
    #[arg(long, value_name = "FILE", requires = "questions")]
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
    pub fn run(&self, console: &Console) -> Result<Status, Failure> {
        Lines::check(self.output.as_deref())?;
        let predictions = vqa_predictions(&self.predictions).map_err(text_failure)?;
        self.measure(&predictions, &stem(&self.predictions), console)
    }

    /// Measures answers, from a file or from a `model`.
    fn measure(
        &self,
        predictions: &VqaPredictions,
        model: &str,
        console: &Console,
    ) -> Result<Status, Failure> {
        let mut annotations = vqa_questions(&self.annotations).map_err(text_failure)?;
        self.sort(&mut annotations)?;
        let found = suites::vqa(predictions, &annotations, self.partial).map_err(text_failure)?;
        say(&found, console);
        if let Some(path) = &self.output {
            Lines::write(Some(path), console, |lines| write_items(&found, lines))?;
        }
        let data = stem(&self.annotations);
        let metrics = found.scores.metrics;
        let report = Report { suite: "vqa", data, model: model.to_owned(), metrics };
        report.print(&self.expectations.expected, 0, console)
    }

    /// Checks annotations against the questions, and sorts by their types.
    fn sort(&self, annotations: &mut VqaQuestions) -> Result<(), Failure> {
        let Some(path) = &self.questions else { return Ok(()) };
        let texts = questions(path).map_err(text_failure)?;
        texts.pair(annotations, false).map_err(text_failure)?;
        let Some(path) = &self.question_types else { return Ok(()) };
        let lines = tuwen_data::files::read_text(path, LARGEST);
        let lines =
            lines.with_context(|| format!("cannot read {}", path.display())).map_err(Failure::usage)?;
        if lines.trim().is_empty() {
            return Err(Failure::usage(anyhow!("{}: no question type", path.display())));
        }
        QuestionTypes::new(&lines).apply(annotations, &texts).map_err(text_failure)
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
