//! A folder of images; the name of the folder directly below it, if any, is the class.

use std::path::{Path, PathBuf};

use super::{DataError, Dataset, IMAGE_SUFFIXES, Sample, check_index};

/// The images in a folder and below it, sorted by path. Links to folders are not followed.
pub struct ImageFolder {
    name: String,
    root: PathBuf,
    /// Relative to the root.
    files: Vec<PathBuf>,
    /// Sorted; the label is the place in this list.
    classes: Vec<String>,
}

impl ImageFolder {
    /// Lists the folder.
    pub fn open(name: &str, root: &Path) -> Result<Self, DataError> {
        let mut files = Vec::new();
        list(root, Path::new(""), &mut files)?;
        files.sort();
        let mut classes: Vec<String> = files.iter().filter_map(|file| class_of(file)).collect();
        classes.sort();
        classes.dedup();
        Ok(Self { name: name.to_owned(), root: root.to_owned(), files, classes })
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
        let image = std::fs::read(&path).map_err(DataError::io(path))?;
        let class_name = class_of(file);
        let label = class_name.as_ref().and_then(|class| self.classes.binary_search(class).ok());
        let label = label.map(|place| place as i64);
        let key = file.with_extension("").to_string_lossy().into_owned();
        Ok(Sample { key, image, texts: Vec::new(), class_name, label })
    }
}

/// The first folder of a path, if it has one.
fn class_of(file: &Path) -> Option<String> {
    let mut parts = file.iter();
    let first = parts.next()?;
    parts.next().map(|_| first.to_string_lossy().into_owned())
}

/// Appends the images in `root/below` and deeper, relative to the root.
fn list(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let folder = root.join(below);
    for entry in std::fs::read_dir(&folder).map_err(DataError::io(&folder))? {
        let entry = entry.map_err(DataError::io(&folder))?;
        let path = below.join(entry.file_name());
        let is_image = || {
            let suffix = path.extension().and_then(|suffix| suffix.to_str()).map(str::to_ascii_lowercase);
            suffix.is_some_and(|suffix| IMAGE_SUFFIXES.contains(&suffix.as_str()))
        };
        if entry.file_type().map_err(DataError::io(&folder))?.is_dir() {
            list(root, &path, files)?;
        } else if is_image() {
            files.push(path);
        }
    }
    Ok(())
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
}
