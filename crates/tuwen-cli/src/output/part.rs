//! Finished pieces of a run: a line of JSON that names the inputs, then their vectors as float32, little-endian.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tuwen_tensor::checkpoint::write_atomically;

use crate::pipeline::{Batch, Record};

/// Inputs with the vectors of those that did not fail.
#[derive(Default)]
pub struct Part {
    /// The inputs in order.
    pub records: Vec<Record>,
    /// The vectors, one after the other.
    pub values: Vec<f32>,
}

/// The line that a file begins with.
#[derive(Serialize, Deserialize)]
struct Head {
    dim: usize,
    records: Vec<Record>,
}

impl Part {
    /// Adds what a batch gave.
    pub fn push(&mut self, batch: Batch) {
        self.values.extend_from_slice(batch.computed.values());
        self.records.extend(batch.records);
    }

    /// Writes a file that is whole or not there.
    pub fn write(&self, path: &Path, dim: usize) -> Result<()> {
        #[derive(Serialize)]
        struct Head<'a> {
            dim: usize,
            records: &'a [Record],
        }
        write_atomically(path, |out| {
            serde_json::to_writer(&mut *out, &Head { dim, records: &self.records })?;
            out.write_all(b"\n")?;
            self.values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
        })?;
        Ok(())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read or is not whole.
    pub fn read(path: &Path, dim: usize) -> Result<Self> {
        let (records, mut reader) = open(path, dim)?;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
        let values = bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
        Ok(Self { records, values })
    }
}

/// The inputs of a part.
///
/// # Errors
/// See [`Part::read`].
pub fn read_records(path: &Path, dim: usize) -> Result<Vec<Record>> {
    open(path, dim).map(|(records, _)| records)
}

/// Reads the line of names; the vectors follow.
fn open(path: &Path, dim: usize) -> Result<(Vec<Record>, BufReader<File>)> {
    let damaged = || format!("{} is damaged", path.display());
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let length = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).with_context(damaged)?;
    let head: Head = serde_json::from_slice(&line).map_err(io::Error::from).with_context(damaged)?;
    let rows = head.records.iter().filter(|record| record.error.is_none()).count();
    let expected = line.len() as u64 + 4 * (rows as u64) * (dim as u64);
    if head.dim != dim || length != expected {
        bail!("{}: {length} bytes, {expected} expected", damaged());
    }
    Ok((head.records, reader))
}
