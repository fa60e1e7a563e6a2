//! VQA: results, annotations and questions in the forms of the VQA challenge.

use std::path::Path;

use serde::Deserialize;

use super::json::{Document, Id, Texts, read, read_list};
use super::{AnnotationError, Keyed};

/// An answer to each question.
pub type VqaPredictions = Keyed<String>;
/// What people answered to each question.
pub type VqaQuestions = Keyed<VqaQuestion>;

const NOUN: &str = "question";

/// What is known of a question.
#[derive(Clone, Debug, PartialEq)]
pub struct VqaQuestion {
    /// What people answered.
    pub answers: Vec<String>,
    /// `yes/no`, `number` or `other`.
    pub answer_type: Option<String>,
    /// How the question begins.
    pub question_type: Option<String>,
}

#[derive(Deserialize)]
struct Predicted {
    question_id: Id,
    answer: String,
}

/// Reads `[{"question_id": 1, "answer": "red"}, ...]`.
///
/// # Errors
/// A file that cannot be read or has another form, and questions that occur twice.
pub fn vqa_predictions(path: &Path) -> Result<VqaPredictions, AnnotationError> {
    let list: Vec<Predicted> = read_list(path, "a list of {\"question_id\", \"answer\"}")?;
    let entries = list.into_iter().map(|Predicted { question_id, answer }| (question_id.0, answer));
    Keyed::new(path.display().to_string(), NOUN, entries.collect())
}

#[derive(Deserialize)]
struct Annotations {
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Annotation {
    question_id: Id,
    answer_type: Option<String>,
    question_type: Option<String>,
    answers: Option<Vec<Answer>>,
    answer: Option<Texts>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected an answer: a text or {\"answer\": \"...\"}")]
enum Answer {
    Text(String),
    Object { answer: String },
}

impl Annotation {
    fn entry(self) -> (String, VqaQuestion) {
        let text = |answer| match answer {
            Answer::Text(answer) | Answer::Object { answer } => answer,
        };
        let answers = self.answers.map(|answers| answers.into_iter().map(text).collect());
        let answers = answers.or_else(|| self.answer.map(Texts::into_vec)).unwrap_or_default();
        let Self { question_id, answer_type, question_type, .. } = self;
        (question_id.0, VqaQuestion { answers, answer_type, question_type })
    }
}

/// Reads VQA's `{"annotations": [{"question_id", "question_type", "answer_type", "answers": [{"answer"}, ...]}, ...]}` or the
/// list alone, where answers may be plain texts, and `answer` one of them or several.
///
/// # Errors
/// A file that cannot be read or has another form, questions that occur twice, and questions without answers.
pub fn vqa_questions(path: &Path) -> Result<VqaQuestions, AnnotationError> {
    let list = match read::<Annotation, Annotations>(path)? {
        Document::List(list) | Document::Object(Annotations { annotations: list }) => list,
    };
    let entries = list.into_iter().map(Annotation::entry).collect();
    let questions = Keyed::new(path.display().to_string(), NOUN, entries)?;
    questions.require("answers", |question: &VqaQuestion| !question.answers.is_empty())?;
    Ok(questions)
}

#[derive(Deserialize)]
struct Questions {
    questions: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    question_id: Id,
    question: String,
}

/// Reads VQA's `{"questions": [{"question_id", "question"}, ...]}` or the list alone.
///
/// # Errors
/// A file that cannot be read or has another form, and questions that occur twice.
pub fn questions(path: &Path) -> Result<Keyed<String>, AnnotationError> {
    let list = match read::<Question, Questions>(path)? {
        Document::List(list) | Document::Object(Questions { questions: list }) => list,
    };
    let entries = list.into_iter().map(|question| (question.question_id.0, question.question));
    Keyed::new(path.display().to_string(), NOUN, entries.collect())
}

/// Beginnings of questions, by which VQA sorts them.
#[derive(Clone, Debug, PartialEq)]
pub struct QuestionTypes(Vec<String>);

impl QuestionTypes {
    /// The type of a question that begins as no other.
    pub const OTHER: &str = "none of the above";

    /// From a list with a beginning on each line.
    pub fn new(lines: &str) -> Self {
        let mut types: Vec<String> =
            lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_lowercase).collect();
        types.sort_by_key(|kind| std::cmp::Reverse(kind.len()));
        Self(types)
    }

    /// The longest beginning, in whole words, that a question has.
    pub fn of(&self, question: &str) -> &str {
        let question = question.to_lowercase();
        let begins = |kind: &&String| {
            let rest = question.trim_start().strip_prefix(kind.as_str());
            rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        };
        self.0.iter().find(begins).map_or(Self::OTHER, String::as_str)
    }

    /// Gives every question a type that has none.
    ///
    /// # Errors
    /// Questions without a text.
    pub fn apply(
        &self,
        annotations: &mut VqaQuestions,
        texts: &Keyed<String>,
    ) -> Result<(), AnnotationError> {
        let kinds: Vec<String> = texts
            .pair(annotations, false)?
            .into_iter()
            .map(|(_, text, _)| self.of(text).to_owned())
            .collect();
        for ((_, question), kind) in annotations.values_mut().zip(kinds) {
            question.question_type.get_or_insert(kind);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(text: &str) -> Result<VqaQuestions, String> {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("annotations.json");
        std::fs::write(&path, text).expect("written");
        vqa_questions(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn answers_have_several_forms() {
        for text in [
            r#"{"info": {}, "annotations": [{"question_id": 1, "answers": [{"answer": "a", "answer_id": 1}, {"answer": "b"}]}]}"#,
            r#"[{"question_id": "1", "answers": ["a", "b"]}]"#,
            r#"[{"question_id": 1, "answer": ["a", "b"]}]"#,
        ] {
            assert_eq!(annotations(text).expect(text).entries()[0].1.answers, ["a", "b"], "{text}");
        }
        for (text, expected) in [
            (
                r#"[{"question_id": 1, "answers": []}, {"question_id": 2}]"#,
                "2 of 2 questions have no answers; the first is 1",
            ),
            (r#"[{"question_id": 1, "answers": [1]}]"#, "expected an answer"),
            (r#"{"questions": []}"#, "missing field `annotations`"),
            (r#"[{"question_id": 1, "answer": "a"}, {"question_id": 1, "answer": "b"}]"#, "more than once"),
        ] {
            let message = annotations(text).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn the_longest_beginning_is_the_type() {
        let types = QuestionTypes::new("what\nwhat color is the\n\nis\n");
        for (question, kind) in [
            ("What color is the car?", "what color is the"),
            ("what colors?", "what"),
            ("island?", QuestionTypes::OTHER),
        ] {
            assert_eq!(types.of(question), kind, "{question}");
        }
    }
}
