//! Questions about images, as JSON has them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A question about an image and what was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The question.
    pub question: String,
    /// An answer for each time that it was given: ten in VQA v2, one elsewhere.
    pub answers: Vec<String>,
    /// `yes/no`, `number` or `other`, where the data say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_type: Option<String>,
    /// How the question begins, where the data say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question_type: Option<String>,
}

impl Question {
    /// Each answer once, with the share of those who gave it.
    pub fn weighted_answers(&self) -> Vec<(&str, f32)> {
        let each = 1.0 / self.answers.len().max(1) as f32;
        let mut weighted: Vec<(&str, f32)> = Vec::new();
        for answer in &self.answers {
            match weighted.iter_mut().find(|(known, _)| known == answer) {
                Some((_, weight)) => *weight += each,
                None => weighted.push((answer, each)),
            }
        }
        weighted
    }
}

/// What JSON says of one question, each in a field.
#[derive(Clone, Copy, Default)]
pub(super) struct Fields<'v> {
    pub question: Option<&'v Value>,
    pub answers: Option<&'v Value>,
    pub answer_type: Option<&'v Value>,
    pub question_type: Option<&'v Value>,
}

impl<'v> Fields<'v> {
    /// The fields of an object, in the words of VQA.
    pub fn of(object: &'v Value) -> Self {
        Self {
            question: object.get("question"),
            answers: object.get("answers").or_else(|| object.get("answer")),
            answer_type: object.get("answer_type"),
            question_type: object.get("question_type"),
        }
    }

    /// Nothing without a question and an answer.
    fn read(self) -> Option<Question> {
        let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
        let question = text(self.question?)?;
        let answers = match self.answers? {
            Value::Array(answers) => answers.iter().filter_map(answer).collect(),
            one => answer(one).into_iter().collect::<Vec<_>>(),
        };
        let (answer_type, question_type) =
            (self.answer_type.and_then(text), self.question_type.and_then(text));
        (!answers.is_empty()).then_some(Question { question, answers, answer_type, question_type })
    }
}

/// The questions of `"qa": [{"question": ..., "answer": ...}, ...]` (or `"answers"`), and one that stands by itself. Files
/// hold anything: what has another form is passed over.
pub(super) fn questions(qa: Option<&Value>, single: Fields<'_>) -> Vec<Question> {
    let listed = qa.and_then(Value::as_array).into_iter().flatten().map(Fields::of);
    listed.chain([single]).filter_map(Fields::read).collect()
}

/// A text, or an object of VQA v2 that holds one.
fn answer(value: &Value) -> Option<String> {
    let text = value.as_str().or_else(|| value.get("answer")?.as_str())?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_forms_are_read_and_others_passed_over() {
        let value = json!({
            "qa": [
                {"question": "how many?", "answer": "two", "answer_type": "number", "question_type": "how many"},
                {"question": "what?", "answers": [{"answer": "a cat", "answer_id": 1}, "cat", {"x": 1}]},
                {"question": "", "answer": "x"}, {"question": "none"}, 7
            ],
            "question": "where?", "answers": ["there", "there", "here"]
        });
        let questions = questions(value.get("qa"), Fields::of(&value));
        let texts: Vec<&str> = questions.iter().map(|question| question.question.as_str()).collect();
        assert_eq!(texts, ["how many?", "what?", "where?"]);
        assert_eq!(questions[1].answers, ["a cat", "cat"]);
        let types = |question: &Question| (question.answer_type.clone(), question.question_type.clone());
        assert_eq!(types(&questions[0]), (Some("number".to_owned()), Some("how many".to_owned())));
        assert_eq!(types(&questions[1]), (None, None));
        let weighted = questions[2].weighted_answers();
        assert_eq!((weighted[0].0, weighted[1].0), ("there", "here"));
        assert!((weighted[0].1 - 2.0 / 3.0).abs() < 1e-6);
    }
}
