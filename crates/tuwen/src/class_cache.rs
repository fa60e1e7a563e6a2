//! Class vectors that are kept in a directory: a thousand labels in eighty templates are read once, not by each process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tuwen_tensor::checkpoint::{self, RawTensor, TensorSource, write_safetensors};

use crate::fingerprint::Fnv;
use crate::{Embeddings, Error, Matcher, Model, Texts};

const CLASSES: &str = "classes";

/// Files that are kept; of more the oldest go.
const KEPT: usize = 64;

impl Model {
    /// As [`Model::classifier`], with class vectors that an earlier call left in `directory`, or that are left there. A
    /// directory that cannot be used is no error: the vectors are computed.
    ///
    /// # Errors
    /// As [`Model::classifier`].
    pub fn classifier_cached(
        &self,
        labels: &[impl AsRef<str>],
        templates: &[impl AsRef<str>],
        directory: &Path,
    ) -> Result<Matcher, Error> {
        let key = key(self, labels, templates);
        let path = directory.join(file_name(&key));
        if let Some(classes) = read(&path, &key, [labels.len(), self.towers.text_dim()]) {
            return Ok(Matcher::new(self, Texts { embeddings: classes, truncated: Vec::new() }));
        }
        let classifier = self.classifier(labels, templates)?;
        // Prompts that were cut shall be named each time.
        if classifier.truncated().is_empty() && fs::create_dir_all(directory).is_ok() {
            let classes = classifier.targets();
            let tensor = RawTensor::from_f32(&[classes.len(), classes.dim()], classes.values());
            let _ = write_safetensors(&path, [(CLASSES.to_owned(), tensor)], &key);
            remove_oldest(directory);
        }
        Ok(classifier)
    }
}

/// Everything that decides the vectors; it is stored with them and compared in full.
fn key(model: &Model, labels: &[impl AsRef<str>], templates: &[impl AsRef<str>]) -> BTreeMap<String, String> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let (fingerprint, precision) = (model.fingerprint(), model.precision().to_string());
    let entries = [
        ("version", version),
        ("model", fingerprint),
        ("precision", precision),
        ("labels", list(labels)),
        ("templates", list(templates)),
    ];
    entries.map(|(name, value)| (name.to_owned(), value)).into()
}

fn list(texts: &[impl AsRef<str>]) -> String {
    serde_json::Value::from_iter(texts.iter().map(AsRef::as_ref)).to_string()
}

fn file_name(key: &BTreeMap<String, String>) -> PathBuf {
    let mut hash = Fnv::default();
    // Writing to a hash cannot fail.
    let _ = write!(hash, "{key:?}");
    format!("{hash}.safetensors").into()
}

fn read(path: &Path, key: &BTreeMap<String, String>, shape: [usize; 2]) -> Option<Embeddings> {
    let file = path.is_file().then(|| checkpoint::open(path).ok())??;
    let fits = file.metadata() == key && file.info(CLASSES)?.shape == shape;
    let values = fits.then(|| file.read(CLASSES).ok())??.to_f32();
    Some(Embeddings::new(values, shape[1]))
}

fn remove_oldest(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let age = |entry: fs::DirEntry| {
        let path = entry.path();
        let is_ours = path.extension().is_some_and(|extension| extension == "safetensors");
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok()?;
        is_ours.then_some((modified, path))
    };
    let mut files: Vec<_> = entries.flatten().filter_map(age).collect();
    files.sort();
    let surplus = files.len().saturating_sub(KEPT);
    files.drain(..surplus).for_each(|(_, path)| drop(fs::remove_file(path)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BUILTIN, Options, Precision};

    #[test]
    fn vectors_are_found_again_by_all_that_decides_them() {
        let Ok(model) = crate::load(BUILTIN, &Options::default()) else { return };
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("classes");
        let files = || fs::read_dir(&directory).map_or(0, Iterator::count);
        let classes = |model: &Model, labels: &[&str]| {
            let matcher = model.classifier_cached(labels, &["a photo of a {}."], &directory);
            matcher.expect("labels").targets().clone()
        };
        let first = classes(&model, &["cat", "dog"]);
        assert_eq!(
            (files(), &first),
            (1, model.classifier(&["cat", "dog"], &["a photo of a {}."]).expect("labels").targets())
        );
        // A file of the same key with other vectors shows that it is read.
        let key = key(&model, &["cat", "dog"], &["a photo of a {}."]);
        let path = directory.join(file_name(&key));
        let marked = RawTensor::from_f32(&[2, first.dim()], &vec![0.5; 2 * first.dim()]);
        write_safetensors(&path, [(CLASSES.to_owned(), marked)], &key).expect("written");
        assert_eq!(classes(&model, &["cat", "dog"]).values()[0], 0.5);
        assert_ne!(classes(&model, &["dog", "cat"]).values()[0], 0.5);
        let reduced = Options { precision: Precision::Bf16, ..Options::default() };
        assert_ne!(
            classes(&crate::load(BUILTIN, &reduced).expect("built in"), &["cat", "dog"]).values()[0],
            0.5
        );
        assert_eq!(files(), 3);
        fs::write(&path, b"damaged").expect("written");
        assert_eq!(classes(&model, &["cat", "dog"]), first);
        let nowhere = model.classifier_cached(&["cat"], &["{}"], &path);
        assert_eq!(nowhere.expect("computed").targets().len(), 1);
    }

    #[test]
    fn the_oldest_go() {
        let place = tempfile::tempdir().expect("a directory");
        for i in 0..KEPT + 3 {
            let path = place.path().join(format!("{i}.safetensors"));
            fs::write(&path, b"").expect("written");
            let age = std::time::Duration::from_secs(1000 + i as u64);
            let file = fs::File::options().write(true).open(&path).expect("open");
            file.set_modified(std::time::UNIX_EPOCH + age).expect("set");
        }
        fs::write(place.path().join("other"), b"").expect("written");
        remove_oldest(place.path());
        let left = |name: &str| place.path().join(name).exists();
        assert_eq!(fs::read_dir(place.path()).expect("read").count(), KEPT + 1);
        assert!(!left("2.safetensors") && left("3.safetensors") && left("other"));
    }
}
