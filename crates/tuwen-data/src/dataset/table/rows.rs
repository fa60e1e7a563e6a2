//! Where the rows of a table lie, and what is in them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader, ReaderBuilder, Terminator};

use super::columns::{Columns, Places};
use crate::dataset::DataError;

/// What may stand between cells.
const SEPARATORS: [u8; 4] = [b'\t', b',', b';', b'|'];

/// Begins some files that were written on Windows.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The rows of a file.
pub(super) struct Rows {
    path: PathBuf,
    separator: u8,
    places: Places,
    width: usize,
    /// Where each row begins: its byte and its line, counted from 1.
    starts: Vec<(u64, u32)>,
}

/// The cells of a row that are read; empty ones are none.
pub(super) struct Cells {
    pub(super) image: Option<String>,
    pub(super) text: Option<String>,
    pub(super) label: Option<String>,
    pub(super) class_name: Option<String>,
}

impl Rows {
    /// Reads a file to its end; `each` sees the cells of every row that is UTF-8.
    pub(super) fn open(
        path: PathBuf,
        columns: Option<&Columns>,
        mut each: impl FnMut(&Cells),
    ) -> Result<Self, DataError> {
        let fail = |line, problem: String| DataError::Table { path: path.clone(), line: Some(line), problem };
        let mut file = BufReader::with_capacity(1 << 16, File::open(&path).map_err(DataError::io(&path))?);
        let start = skip_mark(&mut file).map_err(DataError::io(&path))?;
        let separator = match columns.and_then(|columns| columns.separator) {
            Some(separator) => u8::try_from(separator)
                .map_err(|_| fail(1, format!("separator {separator:?}: one byte is expected")))?,
            None => separator_of(file.fill_buf().map_err(DataError::io(&path))?),
        };
        let mut reader = reader(file, separator);
        let mut record = ByteRecord::new();
        let found = reader.read_byte_record(&mut record);
        if !found.map_err(|error| fail(1, error.to_string()))? {
            return Err(fail(1, "no header".into()));
        }
        let header: Vec<String> =
            record.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        let places = Places::find(columns, &header).map_err(|problem| fail(1, problem))?;
        let width = header.len();
        let mut starts = Vec::new();
        let mut next = ByteRecord::new();
        loop {
            match reader.read_byte_record(&mut next) {
                Ok(true) => std::mem::swap(&mut record, &mut next),
                Ok(false) => break,
                Err(error) => return Err(fail(reader.position().line(), error.to_string())),
            }
            if is_blank(&record) {
                continue;
            }
            let byte = record.position().map_or(0, csv::Position::byte);
            let line = line_of(&record, reader.position().line());
            if record.len() != width {
                return Err(fail(line, ragged(&record, width)));
            }
            // A table of more lines than that would be a terabyte.
            starts.push((start + byte, u32::try_from(line).unwrap_or(u32::MAX)));
            if let Some(cells) = cells(&record, places) {
                each(&cells);
            }
        }
        if has_newline(&record) && !ends_with_quote(&path).map_err(DataError::io(&path))? {
            let line = starts.last().map_or(1, |start| start.1);
            return Err(fail(line.into(), "a quote is not closed".into()));
        }
        Ok(Self { path, separator, places, width, starts })
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The line on which a row begins.
    pub(super) fn line(&self, row: usize) -> u32 {
        self.starts[row].1
    }

    /// Where the file lies.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn error(&self, row: usize, problem: impl Into<String>) -> DataError {
        DataError::Table {
            path: self.path.clone(),
            line: Some(self.line(row).into()),
            problem: problem.into(),
        }
    }

    /// An image that a row names and that cannot be read.
    pub(super) fn unreadable(&self, row: usize, image: PathBuf, error: &std::io::Error) -> DataError {
        if error.kind() == std::io::ErrorKind::NotFound {
            return DataError::NoImage { path: self.path.clone(), line: self.line(row).into(), image };
        }
        self.error(row, format!("cannot read {}: {error}", image.display()))
    }

    /// The cells of a row.
    pub(super) fn read(&self, row: usize) -> Result<Cells, DataError> {
        let mut file = File::open(&self.path).map_err(DataError::io(&self.path))?;
        file.seek(SeekFrom::Start(self.starts[row].0)).map_err(DataError::io(&self.path))?;
        let mut record = ByteRecord::new();
        let mut reader = reader(file, self.separator);
        let found = reader.read_byte_record(&mut record);
        if !found.map_err(|error| self.error(row, error.to_string()))? || record.len() != self.width {
            return Err(self.error(row, "the file has changed since it was opened"));
        }
        cells(&record, self.places).ok_or_else(|| self.error(row, "not UTF-8"))
    }
}

/// Rows may be of any length, so that the error for one can be ours. Carriage returns stay in the last cell, which is
/// trimmed: the reader would count its lines wrong otherwise.
fn reader<R: Read>(input: R, separator: u8) -> Reader<R> {
    ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .terminator(Terminator::Any(b'\n'))
        .from_reader(input)
}

/// Whether a line has nothing but white space.
fn is_blank(record: &ByteRecord) -> bool {
    record.len() == 1 && record.as_slice().trim_ascii().is_empty()
}

/// The line on which a row begins, from the line after it: its own position may be that of empty lines before it.
fn line_of(record: &ByteRecord, after: u64) -> u64 {
    let inner = record.as_slice().iter().filter(|&&byte| byte == b'\n').count() as u64;
    let own = record.position().map_or(1, csv::Position::line);
    own.max(after.saturating_sub(1 + inner))
}

/// Passes over a byte order mark and returns its length.
fn skip_mark(file: &mut impl BufRead) -> std::io::Result<u64> {
    if file.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        file.consume(BYTE_ORDER_MARK.len());
        return Ok(BYTE_ORDER_MARK.len() as u64);
    }
    Ok(0)
}

/// The separator that the first line has most of; a comma where it has none.
fn separator_of(head: &[u8]) -> u8 {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let count = |separator: u8| line.iter().filter(|&&byte| byte == separator).count();
    let best = SEPARATORS.into_iter().rev().max_by_key(|&separator| count(separator));
    best.filter(|&separator| count(separator) > 0).unwrap_or(b',')
}

/// What is wrong with a row of another length than the header.
fn ragged(record: &ByteRecord, width: usize) -> String {
    let got = record.len();
    if got < width && has_newline(record) {
        return format!("a quote is not closed, or a field is missing: {got} of {width} are there");
    }
    format!("{got} field{}, the header has {width}", if got == 1 { "" } else { "s" })
}

/// Whether the last cell runs over several lines. A quote that is not closed takes all lines that follow into one.
fn has_newline(record: &ByteRecord) -> bool {
    record.iter().next_back().is_some_and(|cell| cell.contains(&b'\n'))
}

/// Whether a file ends with a quote, but for white space.
fn ends_with_quote(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(64)))?;
    let mut end = Vec::new();
    file.take(64).read_to_end(&mut end)?;
    Ok(end.trim_ascii_end().ends_with(b"\""))
}

/// The cells of interest, if they are UTF-8.
fn cells(record: &ByteRecord, places: Places) -> Option<Cells> {
    let cell = |place: usize| {
        let text = str::from_utf8(record.get(place).unwrap_or_default()).ok()?.trim();
        Some(Some(text).filter(|text| !text.is_empty()).map(str::to_owned))
    };
    let optional = |place: Option<usize>| place.map_or(Some(None), cell);
    Some(Cells {
        image: cell(places.image)?,
        text: optional(places.text)?,
        label: optional(places.label)?,
        class_name: optional(places.class_name)?,
    })
}
