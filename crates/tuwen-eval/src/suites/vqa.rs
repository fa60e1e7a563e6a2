//! Answers against what people answered, whoever gave them: a file of predictions or a model.

use crate::EvalError;
use crate::annotations::{VqaPredictions, VqaQuestion, VqaQuestions};
use crate::metrics::vqa::{VqaItem, VqaScores, vqa as score};

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Ids of the questions that were measured, in the order of the annotations.
    pub questions: Vec<String>,
    /// The answers.
    pub items: Vec<VqaItem>,
    /// The metrics of all and the accuracy of each.
    pub scores: VqaScores,
    /// Questions that have annotations and no prediction.
    pub unpredicted: usize,
    /// Predictions without a word.
    pub empty: usize,
}

/// Measures an answer to each question; with `partial`, questions without one are left out instead of refused.
///
/// # Errors
/// Questions that only one side has.
pub fn vqa(
    predictions: &VqaPredictions,
    questions: &VqaQuestions,
    partial: bool,
) -> Result<Answered, EvalError> {
    let pairs = predictions.pair(questions, partial)?;
    let item = |&(_, prediction, question): &(&str, &String, &VqaQuestion)| VqaItem {
        prediction: prediction.clone(),
        answers: question.answers.clone(),
        answer_type: question.answer_type.clone(),
        question_type: question.question_type.clone(),
    };
    let items: Vec<VqaItem> = pairs.iter().map(item).collect();
    Ok(Answered {
        scores: score(&items),
        empty: items.iter().filter(|item| item.prediction.trim().is_empty()).count(),
        items,
        questions: pairs.iter().map(|(id, _, _)| (*id).to_owned()).collect(),
        unpredicted: questions.entries().len() - pairs.len(),
    })
}
