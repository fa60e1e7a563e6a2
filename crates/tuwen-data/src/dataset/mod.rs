//! Data sets: samples by number, from tar files, Parquet files or a folder of images.
//!
//! Random access, rather than a stream, makes shuffling exact and lets a run continue where it stopped.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod error;
mod folder;
mod metadata;
mod parquet;
mod pattern;
mod webdataset;

pub use error::DataError;
pub use folder::ImageFolder;
pub use parquet::ParquetDataset;
pub use pattern::braces as brace_names;
pub use webdataset::WebDataset;

/// Suffixes of file names that are taken for images, in lower case.
const IMAGE_SUFFIXES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// An image and what is said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Its name, unique in the data set if the source keeps to its rules.
    pub key: String,
    /// The image file, still encoded.
    pub image: Vec<u8>,
    /// Captions; empty if there are none.
    pub texts: Vec<String>,
    /// The name of its class.
    pub class_name: Option<String>,
    /// The number of its class.
    pub label: Option<i64>,
}

/// Samples that can be read in any order and from several threads.
#[allow(clippy::len_without_is_empty)] // `open` makes no empty one
pub trait Dataset: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Reads a sample; the same number gives the same sample.
    fn get(&self, index: usize) -> Result<Sample, DataError>;

    /// What it is called in messages.
    fn name(&self) -> &str;
}

/// Where a data set is and how it is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// A folder of images, or tar or Parquet files: one, or several as `train-{0000..0003}.tar` or `part-*.parquet`.
    pub path: PathBuf,
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
}

fn one() -> f64 {
    1.0
}

impl DatasetSpec {
    /// The whole of what lies at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), caption_templates: Vec::new(), weight: 1.0, limit: None }
    }
}

/// Opens a data set; its format is seen from its content.
pub fn open(spec: &DatasetSpec) -> Result<Box<dyn Dataset>, DataError> {
    let name = spec.path.display().to_string();
    let files = pattern::expand(&spec.path)?;
    let first = files.first().ok_or_else(|| DataError::NoMatch(name.clone()))?;
    let dataset: Box<dyn Dataset> = match Format::of(first)? {
        Format::Folder => Box::new(ImageFolder::open(&name, first)?),
        Format::Tar => Box::new(WebDataset::open(&name, files)?),
        Format::Parquet => Box::new(ParquetDataset::open(&name, files)?),
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
enum Format {
    Folder,
    Tar,
    Parquet,
}

impl Format {
    fn of(path: &Path) -> Result<Self, DataError> {
        if path.is_dir() {
            return Ok(Self::Folder);
        }
        let mut head = Vec::new();
        let file = std::fs::File::open(path).map_err(DataError::io(path))?;
        file.take(512).read_to_end(&mut head).map_err(DataError::io(path))?;
        let is_tar_name = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("tar"));
        let got = match head.as_slice() {
            [b'P', b'A', b'R', b'1', ..] => return Ok(Self::Parquet),
            [0x1f, 0x8b, ..] => "a gzip file, which cannot be read in any order: unpack it to .tar",
            head if is_tar_name || head.get(257..262) == Some(b"ustar") => return Ok(Self::Tar),
            _ => "something else",
        };
        Err(DataError::UnknownFormat { path: path.to_owned(), got })
    }
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
