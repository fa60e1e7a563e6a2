//! Parquet files with the image files in a column, as Hugging Face writes them.
//!
//! Row groups are decoded whole, and the latest are held up to a limit. A file larger than that is read slowly in
//! random order; a tar file serves better then.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::serialized_reader::SerializedRowGroupReader;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::chunks::Chunks;
use super::place::Place;
use super::{CutFiles, DataError, Dataset, Sample, check_index, question};
use crate::guard::guarded;

mod others;

/// Decoded row groups are held up to about so many bytes.
const HELD_BYTES: usize = 512 << 20;

/// The columns that are read; there must be one of the images.
/// img2dataset calls that column by the format of its files.
const IMAGE_COLUMNS: [&str; 5] = ["image", "img", "jpg", "png", "webp"];
const TEXT_COLUMNS: [&str; 4] = ["captions", "caption", "text", "txt"];
const OTHER_COLUMNS: [&str; 4] = ["key", "label", "class_name", QUESTION_COLUMN];
/// A JSON array of questions with their answers.
const QUESTION_COLUMN: &str = "qa";

/// The rows of one or several Parquet files.
pub struct ParquetDataset {
    name: String,
    files: Vec<Source>,
    groups: Vec<Group>,
    len: usize,
    held: Mutex<Held>,
    /// The metadata of the row group that was asked last.
    metadata: Mutex<Option<(usize, Objects)>>,
    /// Files that were cut and are passed over from there on, in words.
    faults: Vec<String>,
}

/// The metadata of the rows of a group.
type Objects = Arc<Vec<Map<String, Value>>>;

/// A file.
struct Source {
    place: Arc<Place>,
    metadata: ParquetMetaData,
    /// The schema, reduced to the columns that are read.
    columns: Type,
    /// The schema, reduced to the columns that are metadata.
    others: Type,
    /// Names of the labels, if the file tells them.
    class_names: Vec<String>,
}

/// A row group of a file.
struct Group {
    file: usize,
    /// Number of the group in its file.
    index: usize,
    /// Number of its first row in the data set.
    first: usize,
    /// Number of its first row in its file.
    first_in_file: usize,
}

/// Decoded row groups, the latest last.
#[derive(Default)]
struct Held {
    groups: VecDeque<(usize, Arc<Vec<Sample>>)>,
    bytes: usize,
}

impl ParquetDataset {
    /// Reads the footers of these files.
    pub fn open(name: &str, paths: Vec<PathBuf>) -> Result<Self, DataError> {
        Self::open_places(name, paths.into_iter().map(Place::Local).collect(), CutFiles::Refuse)
    }

    pub(super) fn open_places(
        name: &str,
        places: Vec<Place>,
        cut_files: CutFiles,
    ) -> Result<Self, DataError> {
        let (mut files, mut faults, mut left) = (Vec::new(), Vec::new(), places.len());
        let mut groups = Vec::new();
        let mut len = 0;
        for place in places {
            left -= 1;
            let source = match Source::open(place) {
                Err(error @ DataError::Parquet { .. })
                    if cut_files == CutFiles::PassOver && files.len() + left > 0 =>
                {
                    faults.push(format!("{error}; none of its samples are used"));
                    continue;
                }
                source => source?,
            };
            let mut first_in_file = 0;
            for (index, group) in source.metadata.row_groups().iter().enumerate() {
                let rows = usize::try_from(group.num_rows())
                    .map_err(|_| source.error(format!("row group {index} has {} rows", group.num_rows())))?;
                groups.push(Group { file: files.len(), index, first: len, first_in_file });
                first_in_file += rows;
                len += rows;
            }
            files.push(source);
        }
        let (held, metadata) = Default::default();
        Ok(Self { name: name.to_owned(), files, groups, len, held, metadata, faults })
    }

    /// The samples of a row group.
    fn group(&self, number: usize) -> Result<Arc<Vec<Sample>>, DataError> {
        let lock = || self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(samples) = lock().get(number) {
            return Ok(samples);
        }
        let group = &self.groups[number];
        let samples = Arc::new(self.files[group.file].read(group)?);
        let end = self.groups.get(number + 1).map_or(self.len, |next| next.first);
        if samples.len() != end - group.first {
            let (got, expected) = (samples.len(), end - group.first);
            let problem = format!("row group {}: expected {expected} rows, got {got}", group.index);
            return Err(self.files[group.file].error(problem));
        }
        lock().put(number, samples.clone());
        Ok(samples)
    }

    /// The number of the group that a row lies in, and which row of it this is.
    fn find(&self, index: usize) -> Result<(usize, usize), DataError> {
        check_index(self, index)?;
        let number = self.groups.partition_point(|group| group.first <= index) - 1;
        Ok((number, index - self.groups[number].first))
    }

    /// The metadata of a row group.
    fn objects(&self, number: usize) -> Result<Objects, DataError> {
        let mut held = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, objects)) = held.as_ref().filter(|(of, _)| *of == number) {
            return Ok(Arc::clone(objects));
        }
        let group = &self.groups[number];
        let objects = Arc::new(self.files[group.file].read_metadata(group)?);
        *held = Some((number, Arc::clone(&objects)));
        Ok(objects)
    }
}

impl Dataset for ParquetDataset {
    fn len(&self) -> usize {
        self.len
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn faults(&self) -> &[String] {
        &self.faults
    }

    fn is_remote(&self) -> bool {
        self.files.iter().any(|file| file.place.is_remote())
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let (group, row) = self.find(index)?;
        Ok(self.group(group)?[row].clone())
    }

    fn metadata(&self, index: usize) -> Result<Map<String, Value>, DataError> {
        let (group, row) = self.find(index)?;
        Ok(self.objects(group)?.get(row).cloned().unwrap_or_default())
    }
}

impl Held {
    fn get(&mut self, number: usize) -> Option<Arc<Vec<Sample>>> {
        let place = self.groups.iter().position(|(held, _)| *held == number)?;
        let found = self.groups.remove(place)?;
        let samples = found.1.clone();
        self.groups.push_back(found);
        Some(samples)
    }

    fn put(&mut self, number: usize, samples: Arc<Vec<Sample>>) {
        // Two threads may have read the same group.
        if self.get(number).is_some() {
            return;
        }
        self.bytes += size(&samples);
        self.groups.push_back((number, samples));
        while self.bytes > HELD_BYTES && self.groups.len() > 1 {
            if let Some((_, dropped)) = self.groups.pop_front() {
                self.bytes -= size(&dropped);
            }
        }
    }
}

/// Bytes that samples take, roughly.
fn size(samples: &[Sample]) -> usize {
    let texts = |sample: &Sample| sample.texts.iter().map(String::len).sum::<usize>();
    samples.iter().map(|sample| size_of::<Sample>() + sample.image.len() + texts(sample)).sum()
}

impl Source {
    fn open(place: Place) -> Result<Self, DataError> {
        let place = Arc::new(place);
        let error = |problem: String| DataError::Parquet { path: place.path().to_owned(), problem };
        let chunks = Chunks::of(place.clone()).map_err(DataError::io(place.path()))?;
        let reader = guarded(|| SerializedFileReader::new(chunks))
            .map_err(|panic| error(format!("the footer is damaged: {panic}")))?
            .map_err(|problem| error(problem.to_string()))?;
        let metadata = reader.metadata().file_metadata();
        let schema = metadata.schema();
        let known = |name: &str| {
            IMAGE_COLUMNS.contains(&name) || TEXT_COLUMNS.contains(&name) || OTHER_COLUMNS.contains(&name)
        };
        let fields: Vec<_> =
            schema.get_fields().iter().filter(|field| known(field.name())).cloned().collect();
        if !fields.iter().any(|field| IMAGE_COLUMNS.contains(&field.name())) {
            let found: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
            return Err(error(format!("expected a column `image`, got {}", found.join(", "))));
        }
        let reduced = |fields| {
            let columns = Type::group_type_builder(schema.name()).with_fields(fields).build();
            columns.map_err(|problem| error(problem.to_string()))
        };
        let (columns, others) = (reduced(fields)?, reduced(others::columns(schema))?);
        let class_names = metadata
            .key_value_metadata()
            .into_iter()
            .flatten()
            .find(|entry| entry.key == "huggingface")
            .and_then(|entry| serde_json::from_str::<Value>(entry.value.as_deref()?).ok())
            .and_then(|info| {
                let names = info.pointer("/info/features/label/names")?.as_array()?;
                names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
            })
            .unwrap_or_default();
        Ok(Self { metadata: reader.metadata().clone(), place, columns, others, class_names })
    }

    fn error(&self, problem: String) -> DataError {
        DataError::Parquet { path: self.place.path().to_owned(), problem }
    }

    fn read(&self, group: &Group) -> Result<Vec<Sample>, DataError> {
        let rows = self.rows(group, &self.columns)?;
        Ok(rows
            .into_iter()
            .zip(group.first_in_file..)
            .map(|(row, number)| self.sample(number, row))
            .collect())
    }

    fn read_metadata(&self, group: &Group) -> Result<Vec<Map<String, Value>>, DataError> {
        if self.others.get_fields().is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.rows(group, &self.others)?.into_iter().map(others::object).collect())
    }

    /// Some columns of a group. The library panics over much that is damaged.
    fn rows(&self, group: &Group, columns: &Type) -> Result<Vec<Row>, DataError> {
        let damaged = |panic| Err(self.error(format!("row group {} is damaged: {panic}", group.index)));
        guarded(|| self.rows_unguarded(group, columns)).unwrap_or_else(damaged)
    }

    fn rows_unguarded(&self, group: &Group, columns: &Type) -> Result<Vec<Row>, DataError> {
        let wrap = |problem: parquet::errors::ParquetError| {
            self.error(format!("row group {}: {problem}", group.index))
        };
        let chunks = Chunks::of(self.place.clone()).map_err(DataError::io(self.place.path()))?;
        let properties = Arc::new(ReaderProperties::builder().build());
        let metadata = self.metadata.row_group(group.index);
        let reader =
            SerializedRowGroupReader::new(Arc::new(chunks), metadata, None, properties).map_err(wrap)?;
        self.check_dictionaries(&reader, group, columns)?;
        let rows = reader.get_row_iter(Some(columns.clone())).map_err(wrap)?;
        rows.map(|row| row.map_err(wrap)).collect()
    }

    /// Refuses dictionaries of more values than bytes, for which the library would reserve memory without end.
    fn check_dictionaries(
        &self,
        reader: &dyn RowGroupReader,
        group: &Group,
        columns: &Type,
    ) -> Result<(), DataError> {
        let metadata = reader.metadata();
        let wanted = |column: &usize| {
            let root = metadata.column(*column).column_path().parts().first();
            columns.get_fields().iter().any(|field| Some(field.name()) == root.map(String::as_str))
        };
        let dictionary = |column: usize| -> parquet::errors::Result<Option<(usize, usize)>> {
            let mut pages = reader.get_column_page_reader(column)?;
            if !pages.peek_next_page()?.is_some_and(|page| page.is_dict) {
                return Ok(None);
            }
            Ok(pages.get_next_page()?.map(|page| (page.num_values() as usize, page.buffer().len())))
        };
        for column in (0..metadata.num_columns()).filter(wanted) {
            let found = dictionary(column);
            let found =
                found.map_err(|problem| self.error(format!("row group {}: {problem}", group.index)))?;
            if let Some((values, bytes)) = found.filter(|(values, bytes)| values > bytes) {
                let problem = format!("a dictionary of {values} values in {bytes} bytes");
                return Err(self.error(format!("row group {}: {problem}", group.index)));
            }
        }
        Ok(())
    }

    /// The sample of a row, which has this number in the file.
    fn sample(&self, number: usize, row: Row) -> Sample {
        let mut sample = Sample::default();
        for (name, field) in row.into_columns() {
            match name.as_str() {
                "key" => sample.key = text(field).unwrap_or_default(),
                "class_name" => sample.class_name = text(field),
                QUESTION_COLUMN => {
                    let json = text(field).and_then(|text| serde_json::from_str::<Value>(&text).ok());
                    sample.questions = question::questions(json.as_ref(), question::Fields::default());
                }
                "label" => sample.label = integer(&field),
                image if IMAGE_COLUMNS.contains(&image) => {
                    sample.image = image_bytes(field).unwrap_or_default();
                }
                _ if sample.texts.is_empty() => sample.texts = texts(field),
                _ => {}
            }
        }
        if sample.key.is_empty() {
            let file = self.place.path().file_stem().unwrap_or_default().to_string_lossy();
            sample.key = format!("{file}:{number}");
        }
        if sample.class_name.is_none() {
            let label = sample.label.and_then(|label| usize::try_from(label).ok());
            sample.class_name = label.and_then(|label| self.class_names.get(label).cloned());
        }
        sample
    }
}

/// The image file in a column of bytes, or in one of structures with a field `bytes`.
fn image_bytes(field: Field) -> Option<Vec<u8>> {
    match field {
        Field::Bytes(bytes) => Some(bytes.data().to_vec()),
        Field::Group(fields) => fields
            .into_columns()
            .into_iter()
            .find(|(name, _)| name == "bytes")
            .and_then(|(_, field)| image_bytes(field)),
        _ => None,
    }
}

/// A text, also from a column that is not marked as one.
fn text(field: Field) -> Option<String> {
    match field {
        Field::Str(text) => Some(text),
        Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec()).ok(),
        _ => None,
    }
}

/// One text or a list of texts.
fn texts(field: Field) -> Vec<String> {
    match field {
        Field::ListInternal(list) => list.elements().iter().cloned().filter_map(text).collect(),
        field => text(field).into_iter().collect(),
    }
}

fn integer(field: &Field) -> Option<i64> {
    match *field {
        Field::Byte(value) => Some(value.into()),
        Field::Short(value) => Some(value.into()),
        Field::Int(value) => Some(value.into()),
        Field::Long(value) => Some(value),
        Field::UByte(value) => Some(value.into()),
        Field::UShort(value) => Some(value.into()),
        Field::UInt(value) => Some(value.into()),
        Field::ULong(value) => value.try_into().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// The columns of Hugging Face: structures for images, lists for captions, names of labels in the metadata.
    const SCHEMA: &str = "message schema {
        optional group image { optional binary bytes; optional binary path (UTF8); }
        optional int64 label;
        optional group captions (LIST) { repeated group list { optional binary element (UTF8); } }
        optional double score;
    }";

    /// Two row groups of three rows; the image of row 4 is missing.
    fn write(path: &std::path::Path) {
        let info = r#"{"info":{"features":{"label":{"names":["cat","dog"],"_type":"ClassLabel"}}}}"#;
        let metadata = KeyValue::new("huggingface".to_owned(), info.to_owned());
        let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![metadata])).build();
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let file = File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
        for group in 0..2usize {
            let rows = group * 3..group * 3 + 3;
            let mut columns = writer.next_row_group().unwrap();
            let levels: Vec<i16> = rows.clone().map(|row| if row == 4 { 0 } else { 2 }).collect();
            for start in ["image", "path"] {
                let values: Vec<ByteArray> = rows
                    .clone()
                    .filter(|&row| row != 4)
                    .map(|row| format!("{start} {row}").into_bytes().into())
                    .collect();
                let mut column = columns.next_column().unwrap().unwrap();
                column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
                column.close().unwrap();
            }
            let labels: Vec<i64> = rows.clone().map(|row| row as i64 % 3).collect();
            let mut column = columns.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&labels, Some(&[1; 3]), None).unwrap();
            column.close().unwrap();
            let captions: Vec<ByteArray> = rows
                .flat_map(|row| {
                    [format!("first {row}").into_bytes().into(), "second".as_bytes().to_vec().into()]
                })
                .collect();
            let mut column = columns.next_column().unwrap().unwrap();
            let repetition = [0, 1, 0, 1, 0, 1];
            column.typed::<ByteArrayType>().write_batch(&captions, Some(&[3; 6]), Some(&repetition)).unwrap();
            column.close().unwrap();
            let mut column = columns.next_column().unwrap().unwrap();
            column.typed::<parquet::data_type::DoubleType>().write_batch(&[], Some(&[0; 3]), None).unwrap();
            column.close().unwrap();
            columns.close().unwrap();
        }
        writer.close().unwrap();
    }

    #[test]
    fn reads_the_columns_of_hugging_face() {
        let folder = tempfile::tempdir().unwrap();
        let paths = vec![folder.path().join("a.parquet"), folder.path().join("b.parquet")];
        paths.iter().for_each(|path| write(path));
        let dataset = ParquetDataset::open("test", paths).unwrap();
        assert_eq!(dataset.len(), 12);
        for index in [11, 0, 3, 2, 9, 5, 6] {
            let row = index % 6;
            let sample = dataset.get(index).unwrap();
            let file = if index < 6 { "a" } else { "b" };
            assert_eq!(sample.key, format!("{file}:{row}"));
            assert_eq!(sample.image, format!("image {row}").into_bytes());
            assert_eq!(sample.texts, [format!("first {row}"), "second".into()]);
            assert_eq!(sample.label, Some(row as i64 % 3));
            assert_eq!(sample.class_name.as_deref(), ["cat", "dog"].get(row % 3).copied());
        }
        assert!(dataset.get(4).unwrap().image.is_empty());
        assert_eq!(Value::Object(dataset.metadata(3).unwrap()), serde_json::json!({"label": 0}));
        assert!(matches!(dataset.get(12), Err(DataError::OutOfRange { .. })));
    }

    #[test]
    fn threads_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path);
        for _ in 0..50 {
            let dataset = ParquetDataset::open("test", vec![path.clone()]).unwrap();
            std::thread::scope(|scope| {
                for start in 0..4 {
                    let dataset = &dataset;
                    scope.spawn(move || {
                        for index in (start..6).chain(0..start).filter(|&index| index != 4) {
                            assert_eq!(
                                dataset.get(index).unwrap().image,
                                format!("image {index}").into_bytes()
                            );
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn damaged_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path);
        let whole = std::fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = ParquetDataset::open("test", vec![path.clone()]).err().unwrap();
            assert!(error.to_string().contains("a.parquet"), "{error}");
        }
    }

    /// Whatever bit is wrong, the answer is a sample or an error.
    #[test]
    fn flipped_bits_are_samples_or_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path);
        let whole = std::fs::read(&path).unwrap();
        for (place, bit) in (0..whole.len()).flat_map(|place| [0, 3, 6, 7].map(|bit| (place, bit))) {
            let mut file = whole.clone();
            file[place] ^= 1 << bit;
            std::fs::write(&path, file).unwrap();
            if let Ok(dataset) = ParquetDataset::open("test", vec![path.clone()]) {
                (0..dataset.len().min(20)).for_each(|index| drop(dataset.get(index)));
            }
        }
    }

    #[test]
    fn the_latest_groups_are_held() {
        let group = |bytes: usize| Arc::new(vec![Sample { image: vec![0; bytes], ..Sample::default() }]);
        let mut held = Held::default();
        (0..3).for_each(|number| held.put(number, group(HELD_BYTES / 4)));
        assert!(held.get(0).is_some());
        held.put(3, group(HELD_BYTES / 4));
        assert!(held.get(1).is_none() && held.get(0).is_some() && held.get(3).is_some());
        held.put(4, group(2 * HELD_BYTES));
        assert!(held.get(4).is_some() && held.get(3).is_none(), "the last one is held whatever its size");
    }
}
