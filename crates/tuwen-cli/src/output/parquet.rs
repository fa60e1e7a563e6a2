//! Parquet: the columns `input`, `kind` and `embedding`, a list of float32.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::{Origin, Writer};
use crate::pipeline::{Kind, Record};

const SCHEMA: &str = "message schema {
    required binary input (UTF8);
    required binary kind (UTF8);
    required group embedding (LIST) { repeated group list { required float element; } }
}";

/// The path of the numbers among the columns.
const NUMBERS: [&str; 3] = ["embedding", "list", "element"];

/// About so many bytes of numbers make a row group.
const GROUP_BYTES: usize = 32 << 20;

/// The key of the metadata under which the model is found again.
pub const FINGERPRINT: &str = "tuwen.fingerprint";
/// The key of what the network multiplied in.
pub const PRECISION: &str = "tuwen.precision";

/// Writes row groups as they fill.
pub struct Parquet {
    writer: SerializedFileWriter<File>,
    rows_in_group: usize,
    inputs: Vec<ByteArray>,
    kinds: Vec<ByteArray>,
    numbers: Vec<f32>,
    dim: usize,
}

impl Parquet {
    /// Begins a file of vectors of `dim` numbers.
    pub fn create(path: &Path, dim: usize, origin: &Origin) -> Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let metadata = [
            ("tuwen.model", origin.model.clone()),
            (FINGERPRINT, origin.fingerprint.clone()),
            ("tuwen.raw", origin.raw.to_string()),
            (PRECISION, origin.precision.clone()),
        ];
        let metadata = metadata.map(|(key, value)| KeyValue::new(key.to_owned(), value));
        let numbers = || ColumnPath::from(NUMBERS.map(str::to_owned).to_vec());
        let properties = WriterProperties::builder()
            .set_key_value_metadata(Some(metadata.to_vec()))
            .set_compression(Compression::SNAPPY)
            // Vectors neither repeat nor shrink, and nobody asks for their least number.
            .set_column_dictionary_enabled(numbers(), false)
            .set_column_compression(numbers(), Compression::UNCOMPRESSED)
            .set_column_statistics_enabled(numbers(), EnabledStatistics::None)
            .build();
        Ok(Self {
            writer: SerializedFileWriter::new(File::create(path)?, schema, Arc::new(properties))?,
            rows_in_group: (GROUP_BYTES / (4 * dim)).max(1),
            inputs: Vec::new(),
            kinds: Vec::new(),
            numbers: Vec::new(),
            dim,
        })
    }

    /// Writes the rows that are held as a row group.
    fn write_group(&mut self) -> Result<()> {
        let levels = |each_row: &mut dyn FnMut(usize) -> i16| (0..self.dim).map(each_row).collect::<Vec<_>>();
        let (present, first_of_row) = (levels(&mut |_| 1), levels(&mut |i| i16::from(i > 0)));
        let rows = self.inputs.len();
        let mut group = self.writer.next_row_group()?;
        write_column::<ByteArrayType>(&mut group, &self.inputs, None)?;
        write_column::<ByteArrayType>(&mut group, &self.kinds, None)?;
        let levels = (present.repeat(rows), first_of_row.repeat(rows));
        write_column::<FloatType>(&mut group, &self.numbers, Some(levels))?;
        group.close()?;
        self.inputs.clear();
        self.kinds.clear();
        self.numbers.clear();
        Ok(())
    }
}

impl Writer for Parquet {
    fn write(&mut self, record: &Record, vector: &[f32]) -> Result<()> {
        let kind = match record.kind {
            Kind::Text => "text",
            Kind::Image => "image",
        };
        self.inputs.push(record.input.as_str().into());
        self.kinds.push(kind.into());
        self.numbers.extend_from_slice(vector);
        if self.inputs.len() == self.rows_in_group { self.write_group() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        if !self.inputs.is_empty() {
            self.write_group()?;
        }
        self.writer.close()?;
        Ok(())
    }
}

/// Writes the next column, with definition and repetition levels where it has such.
fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    levels: Option<(Vec<i16>, Vec<i16>)>,
) -> Result<()> {
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    let (definition, repetition) = levels.unzip();
    column.typed::<T>().write_batch(values, definition.as_deref(), repetition.as_deref())?;
    Ok(column.close()?)
}

/// What a file tells under a key of its metadata.
pub fn metadata(path: &Path, key: &str) -> Option<String> {
    let reader = SerializedFileReader::new(File::open(path).ok()?).ok()?;
    let pairs = reader.metadata().file_metadata().key_value_metadata()?;
    pairs.iter().find(|pair| pair.key == key)?.value.clone()
}
