//! A folder of images; the name of the folder directly below it, if any, is the class. Beside `a.jpg` may lie `a.txt`
//! with its caption, or `a.json` with captions and class.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::metadata::{self, Metadata};
use super::{DataError, Dataset, Sample, check_index};
use crate::files::read_limited;
use crate::image;
use crate::image::SUFFIXES;

/// The longest text beside an image, in bytes.
const MAX_BESIDE: u64 = 1 << 20;

/// The images in a folder and below it, sorted by path. Links to folders are not followed.
pub struct ImageFolder {
    name: String,
    root: PathBuf,
    /// Relative to the root.
    files: Vec<PathBuf>,
    /// The texts and JSON objects there, relative to the root.
    beside: HashSet<PathBuf>,
    /// Sorted; the label is the place in this list.
    classes: Vec<String>,
}

impl ImageFolder {
    /// Lists the folder.
    pub fn open(name: &str, root: &Path) -> Result<Self, DataError> {
        let mut listed = Listed::default();
        listed.add(root, Path::new(""))?;
        let Listed { mut files, beside } = listed;
        files.sort();
        let mut classes: Vec<String> = files.iter().filter_map(|file| class_of(file)).collect();
        classes.sort();
        classes.dedup();
        Ok(Self { name: name.to_owned(), root: root.to_owned(), files, beside, classes })
    }

    /// What lies beside an image under the same name with this suffix.
    fn read_beside(&self, file: &Path, suffix: &str) -> Result<Option<(PathBuf, Vec<u8>)>, DataError> {
        let beside = file.with_extension(suffix);
        if !self.beside.contains(&beside) {
            return Ok(None);
        }
        let path = self.root.join(beside);
        let opened = File::open(&path).and_then(|file| read_limited(file, MAX_BESIDE));
        let bytes = opened.map_err(DataError::io(&path))?;
        Ok(Some((path, bytes)))
    }

    /// What the JSON object and the text beside an image say of it.
    fn beside(&self, file: &Path) -> Result<(Metadata, Vec<String>), DataError> {
        let wrong = |path: &Path, problem: String| DataError::Beside { path: path.to_owned(), problem };
        let mut metadata = match self.read_beside(file, "json")? {
            Some((path, bytes)) => {
                serde_json::from_slice(&bytes).map_err(|error| wrong(&path, error.to_string()))?
            }
            None => Metadata::default(),
        };
        let mut texts = metadata.take_texts();
        if let (true, Some((path, bytes))) = (texts.is_empty(), self.read_beside(file, "txt")?) {
            texts.extend(metadata::text(bytes).map_err(|error| wrong(&path, error.to_string()))?);
        }
        Ok((metadata, texts))
    }
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        check_index(self, index)?;
        let file = &self.files[index];
        let path = self.root.join(file);
        let image = image::read(&path).map_err(DataError::io(path))?;
        let (mut metadata, texts) = self.beside(file)?;
        let folder = class_of(file);
        let place = folder.as_ref().and_then(|class| self.classes.binary_search(class).ok());
        let label = metadata.label.or(place.map(|place| place as i64));
        let class_name = metadata.take_class_name().or(folder);
        let key = file.with_extension("").to_string_lossy().into_owned();
        let questions = metadata.questions();
        Ok(Sample { key, image, texts, class_name, label, questions, ..Sample::default() })
    }

    fn metadata(&self, index: usize) -> Result<Map<String, Value>, DataError> {
        check_index(self, index)?;
        let Some((path, bytes)) = self.read_beside(&self.files[index], "json")? else {
            return Ok(Map::new());
        };
        serde_json::from_slice(&bytes).map_err(|error| DataError::Beside { path, problem: error.to_string() })
    }
}

/// The first folder of a path, if it has one.
fn class_of(file: &Path) -> Option<String> {
    let mut parts = file.iter();
    let first = parts.next()?;
    parts.next().map(|_| first.to_string_lossy().into_owned())
}

/// Files of a folder, relative to it.
#[derive(Default)]
struct Listed {
    files: Vec<PathBuf>,
    beside: HashSet<PathBuf>,
}

impl Listed {
    /// Adds what lies in `root/below` and deeper.
    fn add(&mut self, root: &Path, below: &Path) -> Result<(), DataError> {
        let folder = root.join(below);
        for entry in std::fs::read_dir(&folder).map_err(DataError::io(&folder))? {
            let entry = entry.map_err(DataError::io(&folder))?;
            let path = below.join(entry.file_name());
            let suffix = path.extension().and_then(|suffix| suffix.to_str()).map(str::to_ascii_lowercase);
            if entry.file_type().map_err(DataError::io(&folder))?.is_dir() {
                self.add(root, &path)?;
            } else if suffix.as_deref().is_some_and(|suffix| SUFFIXES.contains(&suffix)) {
                self.files.push(path);
            } else if matches!(suffix.as_deref(), Some("txt" | "json")) {
                self.beside.insert(path);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_images_with_their_classes() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["dog/2.PNG", "dog/deep/1.jpg", "cat/0.jpeg", "cat/notes.txt", "top.webp"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let dataset = ImageFolder::open("test", folder.path()).unwrap();
        let samples: Vec<Sample> = (0..dataset.len()).map(|index| dataset.get(index).unwrap()).collect();
        let summary: Vec<_> = samples
            .iter()
            .map(|sample| (sample.key.as_str(), sample.class_name.as_deref(), sample.label))
            .collect();
        assert_eq!(
            summary,
            [
                ("cat/0", Some("cat"), Some(0)),
                ("dog/2", Some("dog"), Some(1)),
                ("dog/deep/1", Some("dog"), Some(1)),
                ("top", None, None)
            ]
        );
        assert_eq!(samples[1].image, b"dog/2.PNG");
        std::fs::remove_file(folder.path().join("top.webp")).unwrap();
        assert!(dataset.get(3).unwrap_err().to_string().contains("top.webp"));
    }

    #[test]
    fn what_lies_beside_an_image_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).unwrap();
        for name in ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"] {
            write(name, b"image");
        }
        write("a.txt", b" a dog\n");
        write("b.json", br#"{"captions":["one","two"],"label":4,"class_name":"cat"}"#);
        write("b.txt", b"not this one");
        write("c.txt", b" \n");
        write("d.json", b"{");
        write("e.txt", b"\xff");
        write("class_names.txt", b"cat");
        let dataset = ImageFolder::open("test", folder.path()).unwrap();
        let get = |index| dataset.get(index).unwrap();
        assert_eq!(get(0).texts, ["a dog"]);
        assert_eq!((get(1).texts, get(1).label), (vec!["one".to_owned(), "two".into()], Some(4)));
        assert_eq!(get(1).class_name.as_deref(), Some("cat"));
        assert!(get(2).texts.is_empty());
        assert_eq!(dataset.metadata(1).unwrap()["label"], 4);
        assert!(dataset.metadata(0).unwrap().is_empty() && dataset.metadata(3).is_err());
        for (index, name) in [(3, "d.json"), (4, "e.txt")] {
            let message = dataset.get(index).unwrap_err().to_string();
            assert!(message.contains(name) && !message.contains('\n'), "{message}");
        }
    }
}
