//! Cleaned data sets: the samples of which a text is kept.

mod parquet;
mod webdataset;

use std::collections::HashSet;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Format, Record};
use crate::JobError;

/// A sample to keep.
pub(super) struct Cleaned<'r> {
    /// What it is called in the output.
    pub name: String,
    /// The image file as it was.
    pub image: Vec<u8>,
    /// What else the source says of it.
    pub metadata: Map<String, Value>,
    /// What was decided.
    pub record: &'r Record,
}

/// Takes samples one by one; the file is whole once `finish` returns, and nowhere if it is dropped.
pub(super) trait DataWriter {
    fn push(&mut self, sample: &Cleaned<'_>) -> io::Result<()>;
    fn finish(self: Box<Self>) -> Result<(), JobError>;
    /// Where it will be.
    fn path(&self) -> &Path;
}

/// Begins a file.
pub(super) fn create(format: Format, path: &Path) -> Result<Box<dyn DataWriter>, JobError> {
    Ok(match format {
        Format::WebDataset => Box::new(webdataset::Tar::create(path)?),
        Format::Parquet => Box::new(parquet::Parquet::create(path)?),
    })
}

impl Cleaned<'_> {
    /// The JSON object of the sample: what the source says of it, with the texts that are kept in the place of its
    /// own, and under `capfilt` every text with its scores.
    fn json(&self) -> Value {
        let mut object = self.metadata.clone();
        for texts in ["captions", "caption", "text", "txt"] {
            object.remove(texts);
        }
        object.entry("key").or_insert_with(|| self.record.key.clone().into());
        object.insert("captions".into(), self.record.kept_texts().into());
        object.insert("capfilt".into(), json!(self.record.texts));
        Value::Object(object)
    }
}

/// A key as the name of a member of a tar file, which ends at the first dot of its last part.
pub(super) fn member_name(key: &str) -> String {
    let harmless = |c: char| if c.is_control() || matches!(c, '.' | '\\' | ':') { '_' } else { c };
    let parts = key.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
    let parts: Vec<String> = parts.map(|part| part.chars().map(harmless).collect()).collect();
    if parts.is_empty() { "sample".into() } else { parts.join("/") }
}

/// A name that is not taken yet: the name itself, or the first that is free with a number behind it.
pub(super) fn unique(name: String, taken: &mut HashSet<String>) -> String {
    if taken.insert(name.clone()) {
        return name;
    }
    let mut number = 2_u64;
    loop {
        let numbered = format!("{name}-{number}");
        if taken.insert(numbered.clone()) {
            return numbered;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_names_that_are_read_again() {
        for (key, expected) in [
            ("000001234", "000001234"),
            ("dog/2", "dog/2"),
            ("a.b/c.d", "a_b/c_d"),
            ("/../etc/./passwd", "etc/passwd"),
            ("3:x/y.png", "3_x/y_png"),
            ("..", "sample"),
            ("猫\n", "猫_"),
        ] {
            assert_eq!(member_name(key), expected);
        }
        let mut taken = HashSet::from(["a-2".to_owned()]);
        let names = ["a", "a", "a"].map(|name| unique(name.into(), &mut taken));
        assert_eq!(names, ["a", "a-3", "a-4"]);
    }
}
