//! The files of the project.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::source::Source;

/// The files of a project, and its Rust sources taken apart.
pub struct Tree {
    pub root: PathBuf,
    /// Sorted, relative to the root, with forward slashes.
    pub files: Vec<String>,
    pub sources: Vec<Source>,
}

impl Tree {
    /// What is committed or would be: neither ignored files nor deleted ones.
    pub fn of_git(root: &Path) -> Result<Self, String> {
        let listing = Command::new("git")
            .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .map_err(|error| format!("git ls-files: {error}"))?;
        if !listing.status.success() {
            return Err(format!("git ls-files: {}", String::from_utf8_lossy(&listing.stderr).trim()));
        }
        let files = String::from_utf8_lossy(&listing.stdout);
        let files: BTreeSet<_> =
            files.split('\0').filter(|path| root.join(path).is_file()).map(str::to_owned).collect();
        Self::read(root, files)
    }

    /// Every file of a folder.
    #[cfg(test)]
    pub fn of_folder(root: &Path) -> Result<Self, String> {
        Self::read(root, files_below(root).into_iter().collect())
    }

    fn read(root: &Path, files: BTreeSet<String>) -> Result<Self, String> {
        let mut sources = Vec::new();
        for path in files.iter().filter(|path| path.ends_with(".rs")) {
            let text =
                std::fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"))?;
            sources.push(Source::parse(path, &text));
        }
        let tests: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
        for source in &mut sources {
            source.in_tests = tests.iter().any(|test| {
                source.path == format!("{test}.rs") || source.path.starts_with(&format!("{test}/"))
            });
        }
        Ok(Self { root: root.to_owned(), files: files.into_iter().collect(), sources })
    }

    /// The text of a file; `None` where there is none.
    pub fn text(&self, path: &str) -> Option<String> {
        std::fs::read(self.root.join(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The files in a folder and the folders in it, relative to it, with forward slashes.
pub fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut pending = vec![String::new()];
    while let Some(prefix) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(folder.join(&prefix)) else { continue };
        for entry in entries.flatten() {
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() { pending.push(format!("{path}/")) } else { files.push(path) }
        }
    }
    files.sort();
    files
}
