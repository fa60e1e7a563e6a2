//! NumPy's `.npy`: a matrix of float32, with a file beside it that says what each row is of.
//!
//! The format is that of `numpy/lib/format.py`, version 1.0.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;

use super::Writer;
use crate::pipeline::Record;

/// Data begins at a multiple of so many bytes.
const ALIGNMENT: usize = 64;

/// Writes a row, and a line with its name, for each vector.
pub struct Npy {
    matrix: BufWriter<File>,
    names: BufWriter<File>,
}

impl Npy {
    /// Begins a matrix of `rows` by `dim` at `path`, and the list of names at `names`.
    pub fn create(path: &Path, names: &Path, rows: u64, dim: usize) -> Result<Self> {
        let mut matrix = BufWriter::new(File::create(path)?);
        matrix.write_all(&header(rows, dim))?;
        Ok(Self { matrix, names: BufWriter::new(File::create(names)?) })
    }
}

impl Writer for Npy {
    fn write(&mut self, record: &Record, vector: &[f32]) -> Result<()> {
        vector.iter().try_for_each(|value| self.matrix.write_all(&value.to_le_bytes()))?;
        serde_json::to_writer(&mut self.names, record)?;
        Ok(self.names.write_all(b"\n")?)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.matrix.flush()?;
        Ok(self.names.flush()?)
    }
}

fn header(rows: u64, dim: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    let start = b"\x93NUMPY\x01\x00".len() + size_of::<u16>();
    let padded = (start + text.len() + 1).next_multiple_of(ALIGNMENT) - start;
    text.extend(std::iter::repeat_n(' ', padded - 1 - text.len()));
    text.push('\n');
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [b"\x93NUMPY\x01\x00", &length.to_le_bytes()[..], text.as_bytes()].concat()
}
