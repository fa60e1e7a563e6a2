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

/// The questions of `"qa": [{"question": ..., "answer": ...}, ...]` (or `"answers"`), or of a single pair that stands by
/// itself in `"question"` and `"answer"`. Files hold anything: what has another form is passed over.
pub(super) fn questions(qa: Option<&Value>, single: [Option<&Value>; 2]) -> Vec<Question> {
    let listed = qa.and_then(Value::as_array).into_iter().flatten();
    let listed = listed.filter_map(|item| {
        question(item.get("question"), item.get("answers").or_else(|| item.get("answer")))
    });
    let [text, answers] = single;
    listed.chain(question(text, answers)).collect()
}

fn question(question: Option<&Value>, answers: Option<&Value>) -> Option<Question> {
    let question = question?.as_str().filter(|text| !text.trim().is_empty())?.to_owned();
    let answers = match answers? {
        Value::Array(answers) => answers.iter().filter_map(answer).collect(),
        one => answer(one).into_iter().collect::<Vec<_>>(),
    };
    (!answers.is_empty()).then_some(Question { question, answers })
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
                {"question": "how many?", "answer": "two"},
                {"question": "what?", "answers": [{"answer": "a cat", "answer_id": 1}, "cat", {"x": 1}]},
                {"question": "", "answer": "x"}, {"question": "none"}, 7
            ],
            "question": "where?", "answers": ["there", "there", "here"]
        });
        let questions = questions(value.get("qa"), [value.get("question"), value.get("answers")]);
        let texts: Vec<&str> = questions.iter().map(|question| question.question.as_str()).collect();
        assert_eq!(texts, ["how many?", "what?", "where?"]);
        assert_eq!(questions[1].answers, ["a cat", "cat"]);
        let weighted = questions[2].weighted_answers();
        assert_eq!((weighted[0].0, weighted[1].0), ("there", "here"));
        assert!((weighted[0].1 - 2.0 / 3.0).abs() < 1e-6);
    }
}
