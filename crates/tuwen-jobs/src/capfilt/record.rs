//! What was found out about a sample.

use serde::{Deserialize, Serialize};

use super::settings::Rule;
use crate::{Caption, Scores};

/// A sample with all its texts, kept and dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its name in the source.
    pub key: String,
    /// Its number in the source.
    pub index: usize,
    /// What it is called in the output, where that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed: Option<String>,
    /// Why nothing could be found out, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether any text is kept.
    pub kept: bool,
    /// Texts of the source and captions of the model.
    pub texts: Vec<JudgedText>,
}

/// A text and what was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedText {
    /// The words.
    pub text: String,
    /// Who wrote it.
    pub source: TextSource,
    /// How likely the captioner finds what it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_probability: Option<f32>,
    /// The probability of a match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub itm: Option<f32>,
    /// The cosine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub itc: Option<f32>,
    /// Whether it was longer than the filter reads, which scored its beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Whether it fits well enough.
    pub kept: bool,
}

/// Who wrote a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextSource {
    /// It came with the picture.
    Web,
    /// The captioner.
    Synthetic,
}

impl JudgedText {
    /// A text that came with the picture.
    pub fn web(text: String) -> Self {
        let source = TextSource::Web;
        Self { text, source, log_probability: None, itm: None, itc: None, cut: false, kept: false }
    }

    /// A caption of the model.
    pub fn synthetic(caption: Caption) -> Self {
        let (source, log_probability) = (TextSource::Synthetic, Some(caption.score));
        Self { source, log_probability, ..Self::web(caption.text) }
    }

    /// Decides.
    #[must_use]
    pub fn judged(self, scores: Scores, rule: &Rule) -> Self {
        let Scores { itm, itc, cut } = scores;
        Self { itm, itc, cut, kept: rule.keeps(&scores), ..self }
    }
}

impl Record {
    /// A sample of which nothing could be found out.
    pub fn failed(key: String, index: usize, error: String) -> Self {
        Self { key, index, renamed: None, error: Some(error), kept: false, texts: Vec::new() }
    }

    /// A sample whose texts were judged.
    pub fn judged(key: String, index: usize, texts: Vec<JudgedText>) -> Self {
        let kept = texts.iter().any(|text| text.kept);
        Self { key, index, renamed: None, error: None, kept, texts }
    }

    /// The texts that are kept.
    pub fn kept_texts(&self) -> Vec<String> {
        self.texts.iter().filter(|text| text.kept).map(|text| text.text.clone()).collect()
    }
}
