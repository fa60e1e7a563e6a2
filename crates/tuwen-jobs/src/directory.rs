//! The directory of a job: its lock, the settings it was begun with, and the shards that are finished.
//!
//! A shard is finished once its manifest is there; its records and its data are brought to the disk before.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::JobError;
use crate::files::{is_temporary, read_json, write_json};

/// What the job was begun with.
const SETTINGS: &str = "job.json";
/// Locked by the process at work.
const LOCK: &str = ".lock";
/// A file for each finished shard.
const MANIFESTS: &str = "manifests";
/// A file for each shard with a line for each sample.
const RECORDS: &str = "records";

/// A directory that this process alone works in.
pub(crate) struct JobDirectory {
    root: PathBuf,
    /// Held for as long as the process lives.
    _lock: File,
}

impl JobDirectory {
    /// Makes the directory, or takes up the job in it; with `restart` what was done there is forgotten.
    ///
    /// # Errors
    /// A place that cannot be written to or holds something else, another process at work, other settings.
    pub fn open(root: &Path, settings: &Value, restart: bool) -> Result<Self, JobError> {
        fs::create_dir_all(root).map_err(JobError::io(root))?;
        let begun = root.join(SETTINGS).exists();
        if !begun && names(root)?.iter().any(|name| name != LOCK && !is_temporary(name)) {
            return Err(JobError::NotEmpty { path: root.to_owned() });
        }
        let directory = Self { root: root.to_owned(), _lock: lock(root)? };
        directory.remove_temporary()?;
        if begun && restart {
            directory.forget()?;
        }
        let path = root.join(SETTINGS);
        if path.exists() {
            directory.compare(&path, settings)?;
        } else {
            write_json(&path, settings)?;
        }
        for folder in [MANIFESTS, RECORDS] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(JobError::io(&folder))?;
        }
        Ok(directory)
    }

    /// Where the manifest of a shard lies.
    pub fn manifest(&self, shard: &str) -> PathBuf {
        self.root.join(MANIFESTS).join(format!("{shard}.json"))
    }

    /// Where the records of a shard lie.
    pub fn records(&self, shard: &str) -> PathBuf {
        self.root.join(RECORDS).join(format!("{shard}.jsonl"))
    }

    /// Where a file that people look for lies.
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The manifests of finished shards, by name.
    pub fn manifests<M: DeserializeOwned>(&self) -> Result<BTreeMap<String, M>, JobError> {
        let folder = self.root.join(MANIFESTS);
        let shards = names(&folder)?;
        let shards = shards.iter().filter_map(|name| name.strip_suffix(".json"));
        shards.map(|shard| Ok((shard.to_owned(), read_json(&self.manifest(shard))?))).collect()
    }

    fn compare(&self, path: &Path, settings: &Value) -> Result<(), JobError> {
        match difference("", &read_json(path)?, settings) {
            Some(difference) => Err(JobError::OtherSettings { path: self.root.clone(), difference }),
            None => Ok(()),
        }
    }

    fn remove_temporary(&self) -> Result<(), JobError> {
        for folder in [self.root.clone(), self.root.join(MANIFESTS), self.root.join(RECORDS)] {
            if folder.is_dir() {
                remove(&folder, is_temporary)?;
            }
        }
        Ok(())
    }

    /// Removes all that a job has written: manifests first, so that no shard counts as finished whose data are gone, and
    /// records last, for they tell which data are the job's.
    fn forget(&self) -> Result<(), JobError> {
        let [manifests, records] = [MANIFESTS, RECORDS].map(|name| self.root.join(name));
        let is_shard = |name: &str| {
            let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
            self.records(stem).exists()
        };
        if manifests.is_dir() {
            remove(&manifests, |name| name.ends_with(".json"))?;
        }
        if records.is_dir() {
            remove(&self.root, is_shard)?;
            remove(&records, |name| name.ends_with(".jsonl"))?;
        }
        remove(&self.root, |name| ["report.html", "summary.json", SETTINGS].contains(&name))
    }
}

/// Sees to it that no other process works here.
fn lock(root: &Path) -> Result<File, JobError> {
    let file = File::create(root.join(LOCK)).map_err(JobError::io(root))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(JobError::Locked { path: root.to_owned() }),
        // Some file systems know no locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, JobError> {
    let list = || -> io::Result<Vec<String>> {
        let entries = fs::read_dir(folder)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let mut names = list().map_err(JobError::io(folder))?;
    names.sort();
    Ok(names)
}

/// Removes the files of a folder whose names are of a kind.
fn remove(folder: &Path, is_one: impl Fn(&str) -> bool) -> Result<(), JobError> {
    for name in names(folder)?.iter().filter(|name| is_one(name)) {
        let path = folder.join(name);
        fs::remove_file(&path).map_err(JobError::io(&path))?;
    }
    Ok(())
}

/// The first of the settings that differ: `sampling.top_p was 0.9, now it is 0.8`. What a model is called may differ.
fn difference(name: &str, begun: &Value, now: &Value) -> Option<String> {
    if let (Value::Object(begun), Value::Object(now)) = (begun, now) {
        let fields = begun.keys().chain(now.keys()).filter(|field| *field != "name");
        let (null, dot) = (Value::Null, if name.is_empty() { "" } else { "." });
        return fields.map(String::as_str).find_map(|field| {
            let [begun, now] = [begun, now].map(|object| object.get(field).unwrap_or(&null));
            difference(&format!("{name}{dot}{field}"), begun, now)
        });
    }
    let shown = |value: &Value| if value.is_null() { "not set".to_owned() } else { value.to_string() };
    (begun != now).then(|| format!("{name} was {}, now it is {}", shown(begun), shown(now)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_named() {
        let begun = json!({"seed": 1, "captioner": {"name": "a", "fingerprint": "1"}, "rule": {"itm": 0.5}});
        let with = |change: fn(&mut Value)| {
            let mut now = begun.clone();
            change(&mut now);
            difference("", &begun, &now)
        };
        assert_eq!(with(|now| now["captioner"]["name"] = "b".into()), None);
        assert_eq!(with(|now| now["seed"] = 2.into()).unwrap(), "seed was 1, now it is 2");
        let nested = with(|now| now["rule"] = json!({"itc": 0.3})).unwrap();
        assert!(nested.starts_with("rule.it") && nested.contains("not set"), "{nested}");
    }

    #[test]
    fn one_process_one_job() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("out");
        let settings = json!({"seed": 1});
        let open = |settings: &Value, restart| JobDirectory::open(&root, settings, restart);
        let directory = open(&settings, false).unwrap();
        assert!(matches!(open(&settings, false), Err(JobError::Locked { .. })));
        write_json(&directory.manifest("a-0000"), &json!({"of": "a"})).unwrap();
        for path in [directory.records("a-0000"), root.join("a-0000.tar"), root.join("mine.tar")] {
            fs::write(path, "").unwrap();
        }
        fs::write(root.join(".b-0000.tar.tmp"), "").unwrap();
        drop(directory);
        assert!(matches!(open(&json!({"seed": 2}), false), Err(JobError::OtherSettings { .. })));
        let directory = open(&settings, false).unwrap();
        assert_eq!(directory.manifests::<Value>().unwrap()["a-0000"], json!({"of": "a"}));
        assert!(!root.join(".b-0000.tar.tmp").exists());
        drop(directory);
        let directory = open(&json!({"seed": 2}), true).unwrap();
        assert!(directory.manifests::<Value>().unwrap().is_empty());
        assert!(!root.join("a-0000.tar").exists() && root.join("mine.tar").exists());
    }

    #[test]
    fn a_directory_of_something_else_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("thesis.tex"), "").unwrap();
        let opened = JobDirectory::open(place.path(), &json!({}), true);
        assert!(matches!(opened, Err(JobError::NotEmpty { .. })));
        assert_eq!(names(place.path()).unwrap(), ["thesis.tex"]);
    }
}
