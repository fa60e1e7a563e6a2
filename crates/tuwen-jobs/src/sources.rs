//! The files that a job reads, each with a name for what is made of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tuwen_data::dataset::{self, Access, Dataset, DatasetSpec, is_remote};

use crate::JobError;

/// A file or folder with samples.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// What the names of its shards begin with.
    pub stem: String,
    /// Length of a local file; folders and objects of stores have none.
    pub bytes: Option<u64>,
}

impl Source {
    /// Opens the samples.
    ///
    /// # Errors
    /// A file that cannot be read, or is cut or damaged.
    pub fn open(&self, access: &Access) -> Result<Box<dyn Dataset>, dataset::DataError> {
        dataset::open(&DatasetSpec { access: access.clone(), ..DatasetSpec::new(&self.path) })
    }
}

/// All sources at a path or pattern, each under a name of its own: what sets its path apart from those of the others.
///
/// # Errors
/// Nothing there, or two files that would have the same name.
pub(crate) fn find(path: &Path, access: &Access) -> Result<Vec<Source>, JobError> {
    let paths = dataset::files(path, access)?;
    let parts: Vec<Vec<String>> = paths.iter().map(|path| parts(path)).collect();
    let shared = shared(&parts);
    let mut names = BTreeMap::new();
    let mut sources = Vec::new();
    for (path, parts) in paths.into_iter().zip(&parts) {
        let stem = stem(&parts[shared..]);
        if let Some(first) = names.insert(stem.clone(), path.clone()) {
            return Err(JobError::SameName { name: stem, first, second: path });
        }
        let file = (!is_remote(&path)).then(|| path.metadata().ok()).flatten();
        let bytes = file.filter(std::fs::Metadata::is_file).map(|file| file.len());
        sources.push(Source { path, stem, bytes });
    }
    Ok(sources)
}

/// A path in pieces.
fn parts(path: &Path) -> Vec<String> {
    let text = path.to_string_lossy().replace('\\', "/");
    text.split('/').filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect()
}

/// How many pieces all paths begin with, their last ones not counted.
fn shared(paths: &[Vec<String>]) -> usize {
    let Some(first) = paths.first() else { return 0 };
    let longest = paths.iter().map(|path| path.len().saturating_sub(1)).min().unwrap_or(0);
    (0..longest).take_while(|&at| paths.iter().all(|path| path[at] == first[at])).count()
}

/// `a/b.tar` as `a_b`, of characters that every file system takes.
fn stem(parts: &[String]) -> String {
    let joined = parts.join("_");
    let stem = match joined.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => &joined,
    };
    let harmless = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    let stem: String = stem.chars().map(harmless).collect();
    if stem.is_empty() { "data".into() } else { stem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_set_files_apart() {
        let place = tempfile::tempdir().unwrap();
        let names = |files: &[&str], pattern: &str| {
            for file in files {
                let path = place.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "12345").unwrap();
            }
            let found = find(&place.path().join(pattern), &Access::default());
            found.map(|sources| sources.into_iter().map(|source| source.stem).collect::<Vec<_>>())
        };
        assert_eq!(names(&["a/0.tar", "a/1.x.tar"], "a/*.tar").unwrap(), ["0", "1_x"]);
        assert_eq!(names(&["b/0.tar"], "{a,b}/0.tar").unwrap(), ["a_0", "b_0"]);
        assert_eq!(names(&[], "b/0.tar").unwrap(), ["0"]);
        assert_eq!(names(&["c d/x.jpg"], "c d").unwrap(), ["c_d"]);
        let clash = names(&["a/0_x.tar", "a/0 x.tar"], "a/0?x.tar");
        assert!(matches!(clash, Err(JobError::SameName { .. })), "{clash:?}");
    }
}
