//! JSON lines: one object for each vector.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::Writer;
use crate::pipeline::{Kind, Record};

/// A vector as a line of JSON.
#[derive(Serialize)]
pub struct Line<'a> {
    input: &'a str,
    kind: Kind,
    embedding: &'a [f32],
}

impl<'a> Line<'a> {
    /// The line of an input.
    pub fn new(record: &'a Record, embedding: &'a [f32]) -> Self {
        Self { input: &record.input, kind: record.kind, embedding }
    }
}

/// Writes a line for each vector.
pub struct JsonLines(BufWriter<File>);

impl JsonLines {
    /// Begins a file.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self(BufWriter::new(File::create(path)?)))
    }
}

impl Writer for JsonLines {
    fn write(&mut self, record: &Record, vector: &[f32]) -> Result<()> {
        serde_json::to_writer(&mut self.0, &Line::new(record, vector))?;
        Ok(self.0.write_all(b"\n")?)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        Ok(self.0.flush()?)
    }
}
