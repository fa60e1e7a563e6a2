//! Directories that appear whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::TrainError;

/// Fills a directory under another name, brings it to the disk and moves it to `target`, in place of what is there.
///
/// `fill` brings its files to the disk itself.
pub(crate) fn replace(
    target: &Path,
    fill: impl FnOnce(&Path) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let [building, old] = [".building", ".old"].map(|name| target.with_file_name(name));
    for rubble in [&building, &old] {
        remove(rubble).map_err(TrainError::io(rubble))?;
    }
    fs::create_dir_all(&building).map_err(TrainError::io(&building))?;
    fill(&building)?;
    sync(&building);
    if target.exists() {
        fs::rename(target, &old).map_err(TrainError::io(target))?;
    }
    fs::rename(&building, target).map_err(TrainError::io(target))?;
    if let Some(parent) = target.parent() {
        sync(parent);
    }
    remove(&old).map_err(TrainError::io(&old))
}

/// Removes a directory with its contents, if it is there.
fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Brings a directory's entries to the disk; some file systems cannot.
fn sync(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_what_was_there() {
        let place = tempfile::tempdir().expect("a directory");
        let target = place.path().join("model");
        let write = |text: &'static str| {
            move |directory: &Path| {
                fs::write(directory.join("file"), text).map_err(TrainError::io(directory))?;
                if text == "broken" { Err(TrainError::NoData { failures: 1 }) } else { Ok(()) }
            }
        };
        let read = || fs::read_to_string(target.join("file")).expect("a whole directory");
        replace(&target, write("one")).expect("written");
        assert!(replace(&target, write("broken")).is_err());
        assert_eq!(read(), "one");
        replace(&target, write("two")).expect("written over the rubble");
        assert_eq!(read(), "two");
        assert_eq!(fs::read_dir(place.path()).expect("a directory").count(), 1);
    }
}
