//! Image inputs: files, folders and patterns.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use glob::MatchOptions;

/// Endings of image files, which decide what counts as one in a folder; a file that is named is read whatever its ending.
const IMAGE_SUFFIXES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// An image file that is to be read, or an argument that led to none.
pub struct Input {
    /// What the user calls it.
    pub name: String,
    /// Where it is, or why it is nowhere.
    pub path: Result<PathBuf>,
}

/// The image files that arguments name: files as they are, folders and what lies below them sorted, patterns.
pub fn find(arguments: &[PathBuf]) -> Vec<Input> {
    arguments.iter().flat_map(|argument| expand(argument)).collect()
}

fn expand(argument: &Path) -> Vec<Input> {
    let name = |path: &Path| path.to_string_lossy().into_owned();
    match files(argument) {
        Ok(files) => files.into_iter().map(|path| Input { name: name(&path), path: Ok(path) }).collect(),
        Err(error) => vec![Input { name: name(argument), path: Err(error) }],
    }
}

fn files(argument: &Path) -> Result<Vec<PathBuf>> {
    if argument.is_dir() {
        return non_empty(below(argument)?);
    }
    if argument.exists() {
        return Ok(vec![argument.to_owned()]);
    }
    match argument.to_str() {
        Some(pattern) if pattern.contains(['*', '?', '[']) => matching(pattern),
        _ => bail!("no such file or folder"),
    }
}

fn matching(pattern: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    // As shells do, `*` does not take hidden files.
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
    for path in glob::glob_with(pattern, options)? {
        let path = path?;
        if path.is_dir() {
            files.extend(below(&path)?);
        } else if is_image(&path) {
            files.push(path);
        }
    }
    non_empty(files)
}

fn non_empty(files: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    if files.is_empty() {
        Err(anyhow!("no images here (looked for {})", IMAGE_SUFFIXES.join(", ")))
    } else {
        Ok(files)
    }
}

/// Images in a folder and below it, sorted by path; hidden entries and linked folders are passed over.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || folder.display().to_string();
    let mut entries =
        fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).with_context(context)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type().with_context(context)?.is_dir() {
            files.extend(below(&path)?);
        } else if is_image(&path) && path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

fn is_image(path: &Path) -> bool {
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).map(str::to_ascii_lowercase);
    suffix.is_some_and(|suffix| IMAGE_SUFFIXES.contains(&suffix.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(arguments: &[PathBuf]) -> Vec<Option<String>> {
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        find(arguments).iter().map(|input| input.path.as_ref().ok().and_then(|path| name(path))).collect()
    }

    #[test]
    fn folders_and_patterns_become_sorted_images() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path();
        fs::create_dir_all(root.join("sub/deep")).expect("created");
        fs::create_dir(root.join("empty")).expect("created");
        for file in ["b.JPG", "a.png", "notes.txt", ".hidden.jpg", "sub/deep/c.webp", "sub/d.jpeg"] {
            fs::write(root.join(file), "").expect("written");
        }
        let some = |list: &[&str]| list.iter().map(|name| Some((*name).to_owned())).collect::<Vec<_>>();
        assert_eq!(names(&[root.to_owned()]), some(&["a.png", "b.JPG", "d.jpeg", "c.webp"]));
        assert_eq!(names(&[root.join("*")]), some(&["a.png", "b.JPG", "d.jpeg", "c.webp"]));
        assert_eq!(names(&[root.join("notes.txt"), root.join("a.png")]), some(&["notes.txt", "a.png"]));
        assert_eq!(
            names(&[root.join("empty"), root.join("none.jpg"), root.join("*.gif")]),
            [None, None, None]
        );
    }
}
