//! JSON files that are a list, or an object around one.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};

use super::AnnotationError;

/// Bytes of a file at most; Karpathy's file for COCO has 144 MB.
const LARGEST: u64 = 2 << 30;

/// An id, which is a number in some files and a text in others; the same to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id(pub String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a text")
            }

            fn visit_i64<E: Error>(self, id: i64) -> Result<Id, E> {
                Ok(Id(id.to_string()))
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<Id, E> {
                Ok(Id(id.to_string()))
            }

            fn visit_str<E: Error>(self, id: &str) -> Result<Id, E> {
                Ok(Id(id.to_owned()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

/// One text or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// What a file holds.
pub enum Document<L, O> {
    List(Vec<L>),
    Object(O),
}

/// Reads a file that begins with `[` as a list, and one that begins with `{` as an object.
pub fn read<L: DeserializeOwned, O: DeserializeOwned>(
    path: &Path,
) -> Result<Document<L, O>, AnnotationError> {
    let text = tuwen_data::files::read_text(path, LARGEST)
        .map_err(|source| AnnotationError::Read { path: path.to_owned(), source })?;
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let document = if text.starts_with('[') {
        serde_json::from_str(text).map(Document::List)
    } else {
        serde_json::from_str(text).map(Document::Object)
    };
    document.map_err(|error| AnnotationError::Json { path: path.to_owned(), problem: error.to_string() })
}

/// Reads a file that is a list.
pub fn read_list<L: DeserializeOwned>(
    path: &Path,
    expected: &'static str,
) -> Result<Vec<L>, AnnotationError> {
    match read::<L, serde::de::IgnoredAny>(path)? {
        Document::List(list) => Ok(list),
        Document::Object(_) => Err(AnnotationError::Form { path: path.to_owned(), expected }),
    }
}
