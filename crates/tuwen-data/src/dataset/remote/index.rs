//! Where the samples of remote tar files lie: found once, then kept on this machine under the version of the object.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::REQUESTS;
use crate::dataset::DataError;
use crate::dataset::place::Place;
use crate::dataset::webdataset::Entry;
use crate::parallel;

/// Changes when the form of an index does.
const FORM: &str = "tuwen tar index 1";

/// The samples of each shard: those that were kept, or what `scan` finds, several shards at once.
pub(in crate::dataset) fn index(
    shards: &[Place],
    cache_dir: Option<&Path>,
    scan: impl Fn(&Place) -> Result<Vec<Entry>, DataError> + Sync,
) -> Result<Vec<Vec<Entry>>, DataError> {
    let entries = |shard: &Place| {
        let kept = cache_dir.and_then(|directory| file(directory, shard));
        if let Some(entries) = kept.as_deref().and_then(read) {
            return Ok(entries);
        }
        let entries = scan(shard)?;
        if let Some(path) = kept {
            // Where it cannot be kept, it is made anew next time.
            let _ = write(&path, &entries);
        }
        Ok(entries)
    };
    parallel::map(shards, REQUESTS, entries).into_iter().collect()
}

/// The file for the index of an object.
fn file(directory: &Path, shard: &Place) -> Option<PathBuf> {
    let Place::Remote(object) = shard else { return None };
    let mut hash = Sha256::new();
    for part in [FORM.as_bytes(), object.path().as_os_str().as_encoded_bytes(), object.version().as_bytes()] {
        hash.update(part);
        hash.update([0]);
    }
    let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(directory.join("shards").join(name + ".json"))
}

/// An index that was kept; one that cannot be read is made anew.
fn read(path: &Path) -> Option<Vec<Entry>> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Written under another name first: programs may do so at the same time.
fn write(path: &Path, entries: &[Entry]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(directory)?;
    let unfinished = path.with_extension(format!("{}.unfinished", std::process::id()));
    fs::write(&unfinished, serde_json::to_vec(entries)?)?;
    fs::rename(unfinished, path)
}
