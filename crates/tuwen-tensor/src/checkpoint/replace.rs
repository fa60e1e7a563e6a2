//! Directories that appear whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::CheckpointError;

/// Fills a directory under another name, brings it to the disk and moves it to `target`, in place of what is there.
///
/// `fill` brings its files to the disk itself; [`write_atomically`](super::write_atomically) does.
///
/// # Errors
/// What `fill` fails with, or a step of the file system's; then `target` is as it was. A target without a name, such
/// as `..`, cannot be replaced.
pub fn replace_directory<E: From<CheckpointError>>(
    target: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let [building, old] = [beside(target, "building")?, beside(target, "old")?];
    restore(target, &old)?;
    remove(&building)?;
    fs::create_dir_all(&building).map_err(CheckpointError::io(&building))?;
    let filled = fill(&building).and_then(|()| Ok(swap(target, &building, &old)?));
    // The error that led here is the one to report.
    filled.inspect_err(|_| drop(remove(&building)))
}

/// Brings back what a run that was killed had moved out of the way, if nothing took its place.
fn restore(target: &Path, old: &Path) -> Result<(), CheckpointError> {
    if target.symlink_metadata().is_ok() || old.symlink_metadata().is_err() {
        return remove(old);
    }
    fs::rename(old, target).map_err(CheckpointError::io(target))
}

/// Moves `building` to `target`, and what was there out of the way.
fn swap(target: &Path, building: &Path, old: &Path) -> Result<(), CheckpointError> {
    let fault = || CheckpointError::io(target);
    sync(building);
    let replaces = target.symlink_metadata().is_ok();
    if replaces {
        fs::rename(target, old).map_err(fault())?;
    }
    if let Err(error) = fs::rename(building, target) {
        if replaces {
            let _ = fs::rename(old, target);
        }
        return Err(fault()(error));
    }
    if let Some(parent) = target.parent() {
        sync(parent);
    }
    remove(old)
}

/// `.name.word` beside `name`.
fn beside(target: &Path, word: &str) -> Result<PathBuf, CheckpointError> {
    let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "not the name of a directory");
    let name = target.file_name().ok_or_else(no_name).map_err(CheckpointError::io(target))?;
    Ok(target.with_file_name(format!(".{}.{word}", name.to_string_lossy())))
}

/// Removes a directory with its contents, if it is there.
fn remove(directory: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CheckpointError::io(directory)(error)),
        _ => Ok(()),
    }
}

/// Brings a directory's entries to the disk; some file systems cannot.
fn sync(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}

#[cfg(test)]
mod tests {
    use super::super::testing::temporary;
    use super::*;

    #[test]
    fn a_failure_leaves_what_was_there() {
        let place = temporary();
        let target = place.path().join("model");
        let write = |text: &'static str| {
            move |directory: &Path| {
                fs::write(directory.join("file"), text).map_err(CheckpointError::io(directory))?;
                let broken = || CheckpointError::io(directory)(io::Error::other("broken"));
                if text == "broken" { Err(broken()) } else { Ok(()) }
            }
        };
        let read = || fs::read_to_string(target.join("file")).expect("a whole directory");
        replace_directory(&target, write("one")).expect("written");
        assert!(replace_directory(&target, write("broken")).is_err());
        assert_eq!(read(), "one");
        // What a killed run left is in nobody's way.
        fs::create_dir(place.path().join(".model.building")).expect("rubble");
        fs::write(place.path().join(".model.building/half"), "").expect("rubble");
        replace_directory(&target, write("two")).expect("written");
        assert_eq!(read(), "two");
        assert!(!target.join("half").exists());
        assert_eq!(fs::read_dir(place.path()).expect("a directory").count(), 1);
        assert!(replace_directory(Path::new(".."), write("three")).is_err());
        // It was killed between the two renames, and the next one fails.
        fs::rename(&target, place.path().join(".model.old")).expect("renamed");
        assert!(replace_directory(&target, write("broken")).is_err());
        assert_eq!(read(), "two");
    }
}
