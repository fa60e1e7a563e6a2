//! Files, folders and patterns.

use std::fs;
use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use glob::MatchOptions;
use tuwen_data::dataset::brace_names;

use super::{
    Content, STDIN, Visitor, archive, has_suffix, is_image, is_stream, no_images, stream, visit_failure,
};

/// Visits what an argument of the command line names.
pub fn visit_argument(argument: &Path, each: &mut Visitor<'_>) -> ControlFlow<()> {
    if is_stream(argument) {
        return if argument.as_os_str() == STDIN {
            stream::visit(STDIN, io::stdin(), each)
        } else {
            match fs::File::open(argument) {
                Ok(file) => stream::visit(&name(argument), file, each),
                Err(error) => visit_failure(name(argument), error.into(), each),
            }
        };
    }
    let braces = argument.to_str().filter(|text| text.contains('{') && !argument.exists());
    match braces.map(brace_names) {
        None => visit_pattern(argument, each),
        Some(Ok(names)) => names.iter().try_for_each(|name| visit_pattern(Path::new(name), each)),
        Some(Err(problem)) => visit_failure(name(argument), anyhow!("{problem}"), each),
    }
}

/// Visits a file, a tar file, or a folder and what lies below it.
pub fn visit_path(path: &Path, each: &mut Visitor<'_>) -> ControlFlow<()> {
    match fs::metadata(path) {
        Ok(data) if data.is_dir() => visit_whole_folder(path, each),
        Ok(data) if data.is_file() && is_tar(path) => archive::visit_file(path, each),
        Ok(data) if data.is_file() => visit_file(path, each),
        Ok(_) => visit_failure(name(path), anyhow!("neither a file nor a folder"), each),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            visit_failure(name(path), anyhow!("no such file or folder"), each)
        }
        Err(error) => visit_failure(name(path), error.into(), each),
    }
}

fn visit_pattern(argument: &Path, each: &mut Visitor<'_>) -> ControlFlow<()> {
    match argument.to_str() {
        Some(pattern) if pattern.contains(['*', '?', '[']) && !argument.exists() => {
            visit_matches(pattern, each)
        }
        _ => visit_path(argument, each),
    }
}

fn visit_matches(pattern: &str, each: &mut Visitor<'_>) -> ControlFlow<()> {
    // As shells do, `*` does not take hidden files.
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
    let paths = match glob::glob_with(pattern, options) {
        Ok(paths) => paths,
        Err(error) => return visit_failure(pattern, error.into(), each),
    };
    let mut seen = Seen::default();
    for path in paths {
        match path {
            Ok(path) if path.is_dir() => visit_folder(&path, &mut seen, each)?,
            Ok(path) if path.is_file() && (is_image(&path) || is_tar_name(&path)) => {
                seen.images += 1;
                visit_path(&path, each)?;
            }
            Ok(_) => {}
            Err(error) => visit_failure(name(error.path()), anyhow!("{}", error.error()), each)?,
        }
    }
    seen.report(pattern, each)
}

fn visit_whole_folder(folder: &Path, each: &mut Visitor<'_>) -> ControlFlow<()> {
    let mut seen = Seen::default();
    visit_folder(folder, &mut seen, each)?;
    seen.report(&name(folder), each)
}

/// What was come across in a folder or by a pattern.
#[derive(Default)]
struct Seen {
    /// Images, and folders that could not be read.
    images: u64,
    shards: u64,
}

impl Seen {
    /// Says so if there were no images.
    fn report(&self, name: &str, each: &mut Visitor<'_>) -> ControlFlow<()> {
        match self {
            Self { images: 0, shards: 0 } => visit_failure(name, no_images(), each),
            Self { images: 0, .. } => {
                let error = anyhow!("no images here but tar files: name those, as in '{name}/*.tar'");
                visit_failure(name, error, each)
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Visits images in a folder and below it, sorted by path; hidden entries and linked folders are passed over.
fn visit_folder(folder: &Path, seen: &mut Seen, each: &mut Visitor<'_>) -> ControlFlow<()> {
    let entries = match sorted_entries(folder) {
        Ok(entries) => entries,
        Err(error) => {
            seen.images += 1;
            return visit_failure(name(folder), error, each);
        }
    };
    for (path, is_folder) in entries {
        if is_folder {
            visit_folder(&path, seen, each)?;
        } else if is_image(&path) && path.is_file() {
            seen.images += 1;
            visit_file(&path, each)?;
        } else if is_tar_name(&path) {
            seen.shards += 1;
        }
    }
    ControlFlow::Continue(())
}

/// What lies in a folder by name, and whether it is a folder itself.
fn sorted_entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let mut entries = fs::read_dir(folder)
        .and_then(|entries| {
            let is_hidden = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
            let shown = entries.filter(|entry| !entry.as_ref().is_ok_and(is_hidden));
            shown
                .map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?.is_dir()))))
                .collect::<io::Result<Vec<_>>>()
        })
        .with_context(|| folder.display().to_string())?;
    entries.sort();
    Ok(entries.into_iter().map(|(name, is_folder)| (folder.join(name), is_folder)).collect())
}

fn visit_file(path: &Path, each: &mut Visitor<'_>) -> ControlFlow<()> {
    each(name(path), &mut || Ok(Content::File(path.to_owned())))
}

fn name(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Whether a file that was named is a tar file; the name decides where it can.
fn is_tar(path: &Path) -> bool {
    let begins_like_one = || {
        let mut head = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(archive::BLOCK).read_to_end(&mut head));
        read.is_ok() && archive::begins(&head)
    };
    is_tar_name(path) || (!is_image(path) && begins_like_one())
}

fn is_tar_name(path: &Path) -> bool {
    has_suffix(path, &["tar"])
}
