//! CSV and TSV files: a header, then a row for each sample with the path of its image, its text and its class.
//!
//! One pass notes where each row begins; rows are then read from there, so that a table may be larger than memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{DataError, Dataset, Sample, check_index, is_remote};
use crate::image;

mod columns;
mod rows;

pub use columns::Columns;
use rows::{Cells, Rows};

/// The rows of one or several tables. Paths of images are relative to the file that names them.
pub struct TableDataset {
    name: String,
    tables: Vec<Rows>,
    /// Number of the first sample of each table.
    firsts: Vec<usize>,
    len: usize,
    /// Names of classes, sorted; where labels are no numbers, they are places in this list.
    classes: Vec<String>,
    labels_are_numbers: bool,
}

impl TableDataset {
    /// Reads these files once from beginning to end. `columns` names those that are called otherwise than usual.
    ///
    /// # Errors
    /// Where a file is no table with a column of images; for a row of another length than the header, its line.
    pub fn open(name: &str, paths: Vec<PathBuf>, columns: Option<&Columns>) -> Result<Self, DataError> {
        let (mut tables, mut firsts, mut len) = (Vec::new(), Vec::new(), 0);
        let (mut classes, mut labels_are_numbers) = (BTreeSet::new(), true);
        for path in paths {
            let rows = Rows::open(path, columns, |cells: &Cells| {
                labels_are_numbers &= cells.label.as_ref().is_none_or(|label| label.parse::<i64>().is_ok());
                let class = cells.class_name.as_ref().or(cells.label.as_ref());
                if let Some(class) = class.filter(|class| !classes.contains(*class)) {
                    classes.insert(class.clone());
                }
            })?;
            firsts.push(len);
            len += rows.len();
            tables.push(rows);
        }
        let classes = classes.into_iter().collect();
        Ok(Self { name: name.to_owned(), tables, firsts, len, classes, labels_are_numbers })
    }

    /// Name and number of the class of a row.
    fn class(&self, cells: &mut Cells) -> (Option<String>, Option<i64>) {
        let place = |class: &String| self.classes.binary_search(class).ok().map(|place| place as i64);
        let label = cells.label.take();
        if self.labels_are_numbers && label.is_some() {
            return (cells.class_name.take(), label.and_then(|label| label.parse().ok()));
        }
        let class = cells.class_name.take().or(label);
        let number = class.as_ref().and_then(place);
        (class, number)
    }
}

impl Dataset for TableDataset {
    fn len(&self) -> usize {
        self.len
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        check_index(self, index)?;
        let number = self.firsts.partition_point(|first| *first <= index) - 1;
        let table = &self.tables[number];
        let row = index - self.firsts[number];
        let mut cells = table.read(row)?;
        let Some(image) = cells.image.take() else { return Err(table.error(row, "no path of an image")) };
        if is_remote(Path::new(&image)) {
            let problem =
                format!("{image} is an address: download the images first, for example with img2dataset");
            return Err(table.error(row, problem));
        }
        let path = table.folder().join(&image);
        let bytes = image::read(&path).map_err(|error| table.unreadable(row, path, &error))?;
        let texts = cells.text.take().into_iter().collect();
        let (class_name, label) = self.class(&mut cells);
        let key = format!("{}:{image}", table.line(row));
        Ok(Sample { key, image: bytes, texts, class_name, label, ..Sample::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &[u8]) -> PathBuf {
        for image in ["a.png", "deep/b.png"] {
            let path = folder.join(image);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, image).unwrap();
        }
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn open(text: &[u8], columns: Option<Columns>) -> Result<(tempfile::TempDir, TableDataset), DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "pairs.csv", text);
        TableDataset::open("pairs", vec![path], columns.as_ref()).map(|dataset| (folder, dataset))
    }

    fn summary(dataset: &TableDataset) -> Vec<(String, String, Vec<String>)> {
        let read = |index| dataset.get(index).unwrap();
        let fields = |sample: Sample| (sample.key, String::from_utf8(sample.image).unwrap(), sample.texts);
        (0..dataset.len()).map(read).map(fields).collect()
    }

    #[test]
    fn quotes_newlines_and_byte_order_marks_are_read() {
        let text = "\u{feff}filepath,title\r\na.png,\"two lines,\nand a \"\"quote\"\"\"\r\n\r\ndeep/b.png, plain \r\n";
        let (_folder, dataset) = open(text.as_bytes(), None).unwrap();
        let texts = |text: &str| vec![text.to_owned()];
        assert_eq!(
            summary(&dataset),
            [
                ("2:a.png".into(), "a.png".into(), texts("two lines,\nand a \"quote\"")),
                ("5:deep/b.png".into(), "deep/b.png".into(), texts("plain"))
            ]
        );
        assert!(matches!(dataset.get(2), Err(DataError::OutOfRange { index: 2, len: 2, .. })));
    }

    #[test]
    fn the_separator_is_seen_from_the_header() {
        for separator in ["\t", ",", ";", "|"] {
            let text = format!("title{separator}filepath\nx: 1{separator}a.png\n");
            let (_folder, dataset) = open(text.as_bytes(), None).unwrap();
            assert_eq!(summary(&dataset), [("2:a.png".into(), "a.png".into(), vec!["x: 1".to_owned()])]);
        }
    }

    #[test]
    fn columns_may_have_other_names() {
        let text = b"file,words,kind\na.png,hello,dog\ndeep/b.png,,cat\na.png,there,dog\n";
        let message = open(text, None).err().unwrap().to_string();
        assert!(message.contains("pairs.csv line 1") && message.contains("file, words, kind"), "{message}");
        let name = |name: &str| Some(name.to_owned());
        let columns = Columns {
            image: name("file"),
            caption: name("words"),
            label: name("kind"),
            ..Columns::default()
        };
        let (_folder, dataset) = open(text, Some(columns.clone())).unwrap();
        let classes: Vec<_> = (0..3).map(|index| dataset.get(index).unwrap()).collect();
        let classes: Vec<_> =
            classes.iter().map(|sample| (sample.class_name.as_deref(), sample.label)).collect();
        assert_eq!(classes, [(Some("dog"), Some(1)), (Some("cat"), Some(0)), (Some("dog"), Some(1))]);
        assert!(dataset.get(1).unwrap().texts.is_empty(), "an empty text is none");
        let wrong = Columns { caption: name("wrods"), ..columns };
        let message = open(text, Some(wrong)).err().unwrap().to_string();
        assert!(message.contains("\"wrods\"") && message.contains("words"), "{message}");
    }

    #[test]
    fn numbers_of_classes_are_kept() {
        let text = b"path,label,class_name\na.png,7,tench\na.png,3,goldfish\n";
        let (_folder, dataset) = open(text, None).unwrap();
        let sample = dataset.get(0).unwrap();
        assert_eq!((sample.class_name.as_deref(), sample.label), (Some("tench"), Some(7)));
    }

    #[test]
    fn what_is_wrong_names_the_line() {
        for (text, expected) in [
            ("path,text\na.png,x\na.png\n", "pairs.csv line 3: 1 field, the header has 2"),
            ("path,text\na.png,\"x\ny\"\na.png,x,y\n", "pairs.csv line 4: 3 fields, the header has 2"),
            ("path,text\na.png,\"x\na.png,x\n", "pairs.csv line 2: a quote is not closed"),
            ("path,path\na.png,x\n", "\"path\" is the name of two columns"),
            ("", "no header"),
        ] {
            let message = open(text.as_bytes(), None).err().unwrap().to_string();
            assert!(message.contains(expected), "{message}, not {expected}");
        }
        let (_folder, dataset) =
            open(b"path,text\nnone.png,x\n,y\nhttps://x/y.png,z\na.png,\xff\n", None).unwrap();
        for (index, expected) in [
            "line 2: there is no",
            "line 3: no path",
            "line 4: https://x/y.png is an address",
            "line 5: not UTF-8",
        ]
        .iter()
        .enumerate()
        {
            let message = dataset.get(index).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn several_tables_are_one_data_set() {
        let folder = tempfile::tempdir().unwrap();
        let first = write(folder.path(), "1.csv", b"path,label\na.png,dog\n");
        let second = write(folder.path(), "2.tsv", b"label\tpath\ncat\tdeep/b.png\ndog\ta.png\n");
        let dataset = TableDataset::open("both", vec![first, second.clone()], None).unwrap();
        let labels: Vec<_> = (0..3).map(|index| dataset.get(index).unwrap().label).collect();
        assert_eq!(labels, [Some(1), Some(0), Some(1)]);
        std::fs::write(&second, "label\tpath\n").unwrap();
        assert!(dataset.get(1).unwrap_err().to_string().contains("2.tsv line 2"));
    }
}
