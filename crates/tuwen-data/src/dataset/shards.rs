//! Folders of shards: tar or Parquet files side by side, as img2dataset and `tuwen capfilt` write them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::place::Place;
use super::{Access, DataError, DatasetSpec, ParquetDataset, TABLE_IN_FOLDER};
use crate::image::SUFFIXES;

/// The files that a data set consists of. [`open`](super::open) opens each by itself; a folder of images is one.
///
/// # Errors
/// A pattern that is none or matches nothing, and a folder that cannot be listed.
pub fn files(path: &Path, access: &Access) -> Result<Vec<PathBuf>, DataError> {
    let spec = DatasetSpec { access: access.clone(), ..DatasetSpec::new(path) };
    Ok(places(&spec)?.iter().map(|place| place.path().to_owned()).collect())
}

/// The same as places; the shards of a folder of shards.
pub(super) fn places(spec: &DatasetSpec) -> Result<Vec<Place>, DataError> {
    let places = Place::find(&spec.path, &spec.access)?;
    if let [Place::Local(folder)] = &places[..]
        && folder.is_dir()
    {
        let shards = in_folder(folder)?;
        if !shards.is_empty() {
            return Ok(shards.into_iter().map(Place::Local).collect());
        }
    }
    Ok(places)
}

/// The tar files of a folder, else the Parquet files if they hold images; none where images or their table lie directly
/// in it. Beside its tar files and folders, img2dataset writes Parquet files without images.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let (mut tars, mut tables) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let path = entry.map_err(DataError::io(folder))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let suffix = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
        match suffix.as_deref() {
            _ if path.file_name() == Some(TABLE_IN_FOLDER.as_ref()) => return Ok(Vec::new()),
            Some(suffix) if SUFFIXES.contains(&suffix) => return Ok(Vec::new()),
            Some("tar") if !hidden => tars.push(path),
            Some("parquet") if !hidden => tables.push(path),
            _ => {}
        }
    }
    let holds_images = |path: &PathBuf| ParquetDataset::open("", vec![path.clone()]).is_ok();
    let mut shards = match (tars.is_empty(), tables.iter().any(holds_images)) {
        (false, _) => tars,
        (true, true) => tables,
        (true, false) => Vec::new(),
    };
    shards.sort();
    Ok(shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let files = files(folder, &Access::default()).unwrap();
        files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_folder_of_shards_is_its_shards() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        let own = folder.path().file_name().unwrap().to_string_lossy().into_owned();
        ["00000_stats.json", "00000.parquet"].iter().for_each(|name| write(name));
        assert_eq!(names(folder.path()), [own.as_str()], "no Parquet file with images");
        ["00001.tar", "00000.tar", ".00002.tar"].iter().for_each(|name| write(name));
        assert_eq!(names(folder.path()), ["00000.tar", "00001.tar"]);
        write("a.jpg");
        assert_eq!(names(folder.path()), [own.as_str()], "a folder of images in which tar files lie");
    }
}
