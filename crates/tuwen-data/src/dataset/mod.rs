//! Data sets: samples by number, from tar files, Parquet files, tables or JSON files of paths, or a folder of images.
//!
//! Random access, rather than a stream, makes shuffling exact and lets a run continue where it stopped.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod chunks;
mod error;
mod folder;
mod json;
mod metadata;
mod pairs;
mod parquet;
mod pattern;
mod place;
mod question;
#[cfg(feature = "remote")]
mod remote;
mod shards;
mod table;
mod webdataset;

pub use error::DataError;
pub use folder::ImageFolder;
pub use json::JsonDataset;
use json::JsonOptions;
pub use parquet::ParquetDataset;
pub use pattern::braces as brace_names;
use place::Place;
pub use place::{Access, is_remote};
pub use question::Question;
pub use shards::files;
pub use table::{Columns, TableDataset};
pub use webdataset::WebDataset;

/// The table of a folder of images.
const TABLE_IN_FOLDER: &str = "metadata.csv";

/// An image and what is said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Its name, unique in the data set if the source keeps to its rules.
    pub key: String,
    /// The image file, still encoded.
    pub image: Vec<u8>,
    /// The image on its right, still encoded, where texts are about two.
    pub second_image: Option<Vec<u8>>,
    /// Captions; empty if there are none.
    pub texts: Vec<String>,
    /// The name of its class.
    pub class_name: Option<String>,
    /// The number of its class.
    pub label: Option<i64>,
    /// Questions about it with their answers; empty if there are none.
    pub questions: Vec<Question>,
}

/// Samples that can be read in any order and from several threads.
#[allow(clippy::len_without_is_empty)] // `open` makes no empty one
pub trait Dataset: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Reads a sample; the same number gives the same sample.
    fn get(&self, index: usize) -> Result<Sample, DataError>;

    /// Whatever else the source says of a sample, by the names that it has there: the object beside the image, or the
    /// other columns of its row.
    ///
    /// # Errors
    /// A source that cannot be read or understood.
    fn metadata(&self, index: usize) -> Result<Map<String, Value>, DataError> {
        let _ = index;
        Ok(Map::new())
    }

    /// What it is called in messages.
    fn name(&self) -> &str;

    /// Files of it that were cut and are passed over from there on, in words: see [`CutFiles::PassOver`].
    fn faults(&self) -> &[String] {
        &[]
    }

    /// Whether each sample is fetched over a network, so that several at once come sooner than one after another.
    fn is_remote(&self) -> bool {
        false
    }
}

impl<T: Dataset + ?Sized> Dataset for Arc<T> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        (**self).get(index)
    }

    fn metadata(&self, index: usize) -> Result<Map<String, Value>, DataError> {
        (**self).metadata(index)
    }

    fn name(&self) -> &str {
        (**self).name()
    }

    fn faults(&self) -> &[String] {
        (**self).faults()
    }

    fn is_remote(&self) -> bool {
        (**self).is_remote()
    }
}

/// Where a data set is and how it is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// A folder of images or of shards, or tar, Parquet, CSV, TSV or JSON files: one, or several as
    /// `train-{0000..0003}.tar` or `part-*.parquet`. Tar and Parquet files may lie in a store
    /// (`s3://bucket/train-{0000..0003}.tar`).
    pub path: PathBuf,
    /// What the columns of a CSV or TSV file are called, where they have none of the usual names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Columns>,
    /// The directory of the images that a JSON file names, where it is not that of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// The part of Karpathy's split that is used: `train`, `restval`, `val` or `test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// VQA's file of questions, where `path` is that of the annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<PathBuf>,
    /// Captions made from the name of the class, which stands for `{}`. Where given, they replace the captions of
    /// every sample that has a class name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caption_templates: Vec<String>,
    /// How often a sample occurs in an epoch of a mixture; a fraction of an occurrence falls to a random part of the
    /// samples, another one in each epoch.
    #[serde(default = "one")]
    pub weight: f64,
    /// Uses the first samples only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// How a store is reached; no part of a recipe, for it holds secrets.
    #[serde(skip)]
    pub access: Access,
    /// What becomes of files that were cut; set by the program, which knows what the samples are for.
    #[serde(skip)]
    pub cut_files: CutFiles,
}

/// What becomes of local tar files that were cut somewhere, and of Parquet files without their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CutFiles {
    /// The data set is refused: what is measured on fewer samples has another value.
    #[default]
    Refuse,
    /// What is whole is used, that is all before the sample at the cut, and nothing of a Parquet file; [`Dataset::faults`]
    /// tells of it.
    PassOver,
}

fn one() -> f64 {
    1.0
}

impl DatasetSpec {
    /// The whole of what lies at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let (columns, images, split, questions) = Default::default();
        let (limit, access, caption_templates, cut_files) = Default::default();
        let (path, weight) = (path.into(), 1.0);
        Self { path, columns, images, split, questions, caption_templates, weight, limit, access, cut_files }
    }
}

/// Opens a data set; its format is seen from its content.
pub fn open(spec: &DatasetSpec) -> Result<Box<dyn Dataset>, DataError> {
    let name = spec.path.display().to_string();
    let files = shards::places(spec)?;
    let first = files.first().ok_or_else(|| DataError::NoMatch(name.clone()))?;
    let format = Format::of(first)?;
    if spec.columns.is_some() && !matches!(format, Format::Table | Format::Folder) {
        return Err(DataError::Option {
            option: "columns",
            problem: format!("{name} is no CSV or TSV file"),
        });
    }
    let of_json = [
        ("images", spec.images.is_some()),
        ("split", spec.split.is_some()),
        ("questions", spec.questions.is_some()),
    ];
    if let Some((option, _)) = of_json.into_iter().find(|(_, given)| *given && format != Format::Json) {
        return Err(DataError::Option { option, problem: format!("{name} is no JSON file") });
    }
    let dataset: Box<dyn Dataset> = match format {
        // As Hugging Face's `imagefolder` has it.
        Format::Folder if first.path().join(TABLE_IN_FOLDER).is_file() => {
            let table = first.path().join(TABLE_IN_FOLDER);
            Box::new(TableDataset::open(&name, vec![table], spec.columns.as_ref())?)
        }
        Format::Folder => Box::new(ImageFolder::open(&name, first.path())?),
        Format::Tar => {
            let cache_dir = spec.access.cache_dir.as_deref();
            Box::new(WebDataset::open_places(&name, files, cache_dir, spec.cut_files)?)
        }
        Format::Parquet => Box::new(ParquetDataset::open_places(&name, files, spec.cut_files)?),
        Format::Json if files.len() > 1 => {
            let problem = format!("{name} are several JSON files: give each a data set of its own");
            return Err(DataError::Option { option: "path", problem });
        }
        Format::Json => {
            let options = JsonOptions {
                images: spec.images.as_deref(),
                split: spec.split.as_deref(),
                questions: spec.questions.as_deref(),
            };
            Box::new(JsonDataset::open(&name, first.path(), options)?)
        }
        Format::Table => {
            let files = files.iter().map(|file| file.path().to_owned()).collect();
            Box::new(TableDataset::open(&name, files, spec.columns.as_ref())?)
        }
    };
    if dataset.len() == 0 {
        return Err(DataError::Empty { path: spec.path.clone() });
    }
    if spec.limit == Some(0) {
        return Err(DataError::Option { option: "limit", problem: "must be at least 1".into() });
    }
    if spec.limit.is_none() && spec.caption_templates.is_empty() {
        return Ok(dataset);
    }
    let len = spec.limit.map_or(dataset.len(), |limit| limit.min(dataset.len()));
    let templates =
        spec.caption_templates.iter().map(|template| split_template(template)).collect::<Result<_, _>>()?;
    Ok(Box::new(Adapted { dataset, len, templates }))
}

/// The text before and after the name in a template.
fn split_template(template: &str) -> Result<(String, String), DataError> {
    let (before, after) =
        template.split_once("{}").or_else(|| template.split_once("{c}")).ok_or_else(|| {
            DataError::Option { option: "caption_templates", problem: format!("{template:?} has no {{}}") }
        })?;
    Ok((before.to_owned(), after.to_owned()))
}

/// What lies at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Folder,
    Tar,
    Parquet,
    Table,
    Json,
}

impl Format {
    fn of(place: &Place) -> Result<Self, DataError> {
        let path = place.path();
        if path.is_dir() {
            return Ok(Self::Folder);
        }
        let head = head(place).map_err(DataError::io(path))?;
        let named = |endings: &[&str]| {
            path.extension()
                .is_some_and(|suffix| endings.iter().any(|ending| suffix.eq_ignore_ascii_case(ending)))
        };
        let got = match head.as_slice() {
            [b'P', b'A', b'R', b'1', ..] => return Ok(Self::Parquet),
            [0x1f, 0x8b, ..] => "a gzip file, which cannot be read in any order: unpack it",
            head if named(&["tar"]) || head.get(257..262) == Some(b"ustar") => return Ok(Self::Tar),
            _ if named(&["csv", "tsv"]) && place.is_remote() => {
                "a table in a store: of what lies there, tar and Parquet files can be read"
            }
            _ if named(&["csv", "tsv"]) => return Ok(Self::Table),
            _ if named(&["json", "jsonl"]) && !place.is_remote() => return Ok(Self::Json),
            _ => "something else",
        };
        Err(DataError::UnknownFormat { path: path.to_owned(), got })
    }
}

/// The first bytes of a file.
fn head(place: &Place) -> std::io::Result<Vec<u8>> {
    let range = 0..place.len()?.min(512);
    Ok(place.read(&[range])?.pop().unwrap_or_default())
}

/// Checks a number asked of a data set.
fn check_index(dataset: &dyn Dataset, index: usize) -> Result<(), DataError> {
    let len = dataset.len();
    if index < len {
        return Ok(());
    }
    Err(DataError::OutOfRange { name: dataset.name().to_owned(), index, len })
}

/// The first samples of a data set, with captions made from their class names.
struct Adapted {
    dataset: Box<dyn Dataset>,
    len: usize,
    /// The text before and after the name.
    templates: Vec<(String, String)>,
}

impl Dataset for Adapted {
    fn len(&self) -> usize {
        self.len
    }

    fn name(&self) -> &str {
        self.dataset.name()
    }

    fn faults(&self) -> &[String] {
        self.dataset.faults()
    }

    fn is_remote(&self) -> bool {
        self.dataset.is_remote()
    }

    fn metadata(&self, index: usize) -> Result<Map<String, Value>, DataError> {
        self.dataset.metadata(index)
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        check_index(self, index)?;
        let mut sample = self.dataset.get(index)?;
        if let (Some(class_name), false) = (&sample.class_name, self.templates.is_empty()) {
            let spoken = class_name.replace('_', " ");
            sample.texts =
                self.templates.iter().map(|(before, after)| format!("{before}{spoken}{after}")).collect();
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["hot_dog/a.jpg", "cat/b.jpg", "c.jpg"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        folder
    }

    #[test]
    fn templates_and_limit_apply() {
        let folder = folder();
        let mut spec = DatasetSpec::new(folder.path());
        spec.caption_templates = vec!["a photo of a {}.".into(), "{c}!".into()];
        let dataset = open(&spec).unwrap();
        assert_eq!(dataset.len(), 3);
        assert!(dataset.get(0).unwrap().texts.is_empty(), "no class, no caption");
        assert_eq!(dataset.get(2).unwrap().texts, ["a photo of a hot dog.", "hot dog!"]);
        spec.limit = Some(2);
        let dataset = open(&spec).unwrap();
        assert_eq!(dataset.len(), 2);
        assert!(matches!(dataset.get(2), Err(DataError::OutOfRange { .. })));
        spec.caption_templates = vec!["no place".into()];
        assert!(matches!(open(&spec), Err(DataError::Option { option: "caption_templates", .. })));
    }

    #[test]
    fn what_is_no_data_set_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(open(&DatasetSpec::new(folder.path())), Err(DataError::Empty { .. })));
        assert!(matches!(open(&DatasetSpec::new(folder.path().join("none.tar"))), Err(DataError::Io { .. })));
        let text = folder.path().join("text.txt");
        std::fs::write(&text, "hello").unwrap();
        assert!(matches!(open(&DatasetSpec::new(text)), Err(DataError::UnknownFormat { .. })));
        let gzip = folder.path().join("a.tar.gz");
        std::fs::write(&gzip, [0x1f, 0x8b, 8]).unwrap();
        assert!(open(&DatasetSpec::new(gzip)).err().unwrap().to_string().contains("unpack"));
    }
}
