//! What a JSON object beside an image says of it.

use std::string::FromUtf8Error;

use serde::Deserialize;
use serde_json::Value;

use super::question::{self, Fields, Question};

/// The fields of interest; others are ignored, for such files hold anything.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Metadata {
    captions: Option<Texts>,
    caption: Option<Texts>,
    text: Option<Texts>,
    class_name: Option<String>,
    file_class: Option<String>,
    pub(super) label: Option<i64>,
    qa: Option<Value>,
    question: Option<Value>,
    answer: Option<Value>,
    answers: Option<Value>,
    answer_type: Option<Value>,
    question_type: Option<Value>,
}

/// The caption in a text file, unless it is empty.
pub(super) fn text(bytes: Vec<u8>) -> Result<Option<String>, FromUtf8Error> {
    let text = String::from_utf8(bytes)?.trim().to_owned();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// One text or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Metadata {
    /// The captions: those of the first field that has any.
    pub(super) fn take_texts(&mut self) -> Vec<String> {
        [self.captions.take(), self.caption.take(), self.text.take()]
            .into_iter()
            .flatten()
            .map(|texts| match texts {
                Texts::One(text) => vec![text],
                Texts::Many(texts) => texts,
            })
            .map(|mut texts| {
                texts.retain(|text| !text.trim().is_empty());
                texts
            })
            .find(|texts| !texts.is_empty())
            .unwrap_or_default()
    }

    /// The questions about the image.
    pub(super) fn questions(&self) -> Vec<Question> {
        let single = Fields {
            question: self.question.as_ref(),
            answers: self.answers.as_ref().or(self.answer.as_ref()),
            answer_type: self.answer_type.as_ref(),
            question_type: self.question_type.as_ref(),
        };
        question::questions(self.qa.as_ref(), single)
    }

    /// The name of the class.
    pub(super) fn take_class_name(&mut self) -> Option<String> {
        self.class_name.take().or_else(|| self.file_class.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_usual_fields() {
        let parse = |json: &str| serde_json::from_str::<Metadata>(json).unwrap();
        let mut flickr = parse(r#"{"captions":["a","b"," "],"caption":"c","sha256":1}"#);
        assert_eq!(flickr.take_texts(), ["a", "b"]);
        let mut img2dataset = parse(r#"{"caption":null,"text":"x","label":3,"class_name":"cat"}"#);
        assert_eq!(img2dataset.take_texts(), ["x"]);
        assert_eq!(img2dataset.take_class_name().as_deref(), Some("cat"));
        assert_eq!(img2dataset.label, Some(3));
        assert!(parse("{}").take_texts().is_empty());
        assert_eq!(parse(r#"{"file_class":"tench"}"#).take_class_name().as_deref(), Some("tench"));
    }
}
