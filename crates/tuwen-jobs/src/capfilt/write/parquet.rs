//! Parquet: the columns `key`, `image`, `captions`, `url` where the source tells it, and `json`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::Result;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

use super::{Cleaned, DataWriter};
use crate::JobError;
use crate::files::PartialFile;

const SCHEMA: &str = "message schema {
    required binary key (UTF8);
    required binary image;
    required group captions (LIST) { repeated group list { required binary element (UTF8); } }
    optional binary url (UTF8);
    required binary json (UTF8);
}";

/// About so many bytes of images make a row group, so that a row is read with few others.
const GROUP_BYTES: usize = 8 << 20;

/// Writes row groups as they fill.
pub(super) struct Parquet {
    path: PathBuf,
    writer: SerializedFileWriter<PartialFile>,
    rows: Vec<Row>,
    bytes: usize,
}

struct Row {
    key: ByteArray,
    image: ByteArray,
    captions: Vec<ByteArray>,
    url: Option<ByteArray>,
    json: ByteArray,
}

impl Parquet {
    /// Begins a file.
    pub fn create(path: &Path) -> std::result::Result<Self, JobError> {
        let file = PartialFile::create(path)?;
        let begin = || -> Result<_> {
            let schema = Arc::new(parse_message_type(SCHEMA)?);
            let properties = WriterProperties::builder()
                .set_dictionary_enabled(false)
                .set_statistics_enabled(EnabledStatistics::None)
                .build();
            SerializedFileWriter::new(file, schema, Arc::new(properties))
        };
        let writer = begin().map_err(|error| JobError::io(path)(io::Error::other(error)))?;
        Ok(Self { path: path.to_owned(), writer, rows: Vec::new(), bytes: 0 })
    }

    /// Writes the rows that are held as a row group.
    fn write_group(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        let column = |of: fn(&Row) -> &ByteArray| rows.iter().map(of).cloned().collect::<Vec<_>>();
        write_column(&mut group, &column(|row| &row.key), None, None)?;
        write_column(&mut group, &column(|row| &row.image), None, None)?;
        let captions: Vec<ByteArray> = rows.iter().flat_map(|row| &row.captions).cloned().collect();
        let first_of_row = |row: &Row| (0..row.captions.len()).map(|i| i16::from(i > 0)).collect::<Vec<_>>();
        let repetition: Vec<i16> = rows.iter().flat_map(first_of_row).collect();
        write_column(&mut group, &captions, Some(&vec![1; captions.len()]), Some(&repetition))?;
        let urls: Vec<ByteArray> = rows.iter().filter_map(|row| row.url.clone()).collect();
        let present: Vec<i16> = rows.iter().map(|row| i16::from(row.url.is_some())).collect();
        write_column(&mut group, &urls, Some(&present), None)?;
        write_column(&mut group, &column(|row| &row.json), None, None)?;
        group.close()?;
        Ok(())
    }
}

/// Writes the next column of a group, with definition and repetition levels where it has such.
fn write_column(
    group: &mut SerializedRowGroupWriter<'_, PartialFile>,
    values: &[ByteArray],
    definition: Option<&[i16]>,
    repetition: Option<&[i16]>,
) -> Result<()> {
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    column.typed::<ByteArrayType>().write_batch(values, definition, repetition)?;
    column.close()
}

impl DataWriter for Parquet {
    fn push(&mut self, sample: &Cleaned<'_>) -> io::Result<()> {
        let json = sample.json();
        let url = json.get("url").and_then(Value::as_str).map(|url| ByteArray::from(url.as_bytes().to_vec()));
        let text = |text: String| ByteArray::from(text.into_bytes());
        self.bytes += sample.image.len();
        self.rows.push(Row {
            key: text(sample.name.clone()),
            image: sample.image.clone().into(),
            captions: sample.record.kept_texts().into_iter().map(text).collect(),
            url,
            json: text(json.to_string()),
        });
        if self.bytes < GROUP_BYTES { Ok(()) } else { self.write_group().map_err(unwrapped) }
    }

    fn finish(mut self: Box<Self>) -> std::result::Result<(), JobError> {
        let path = self.path.clone();
        let written = self.write_group().and_then(|()| self.writer.into_inner());
        written.map_err(|error| JobError::io(&path)(unwrapped(error)))?.finish()
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// What the file system said, where it was that.
fn unwrapped(error: parquet::errors::ParquetError) -> io::Error {
    match error {
        parquet::errors::ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
