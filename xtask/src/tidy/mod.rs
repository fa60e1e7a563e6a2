//! `cargo xtask tidy`: the invariants of the project, each in a few lines. A breach is one line, `path:line: what`.

mod code;
mod dependencies;
mod documents;
mod files;
mod source;
mod tree;

use std::fmt;
use std::path::Path;

use tree::Tree;

/// Something that may not be.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Breach {
    /// Relative to the root, with forward slashes.
    path: String,
    /// Counted from 1.
    line: usize,
    what: String,
}

impl Breach {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Checks the project at `root` and prints every breach.
pub fn run(root: &Path) -> Result<(), String> {
    let tree = Tree::of_git(root)?;
    let mut breaches = [code::check, dependencies::check, documents::check, files::check]
        .into_iter()
        .flat_map(|check| check(&tree))
        .collect::<Vec<_>>();
    breaches.sort();
    for breach in &breaches {
        println!("{breach}");
    }
    match breaches.len() {
        0 => {
            eprintln!("tidy: {} files, no breach", tree.files.len());
            Ok(())
        }
        count => Err(format!("tidy: {count} breaches")),
    }
}

/// Whether `text` holds `word` with nothing of a longer name beside it; a hyphen is part of a name if `hyphens`.
fn has_word(text: &str, word: &str, hyphens: bool) -> bool {
    let of_name = |c: char| c.is_alphanumeric() || c == '_' || (hyphens && c == '-');
    text.match_indices(word).any(|(start, _)| {
        !text[..start].chars().next_back().is_some_and(of_name)
            && !text[start + word.len()..].chars().next().is_some_and(of_name)
    })
}

/// A made-up project: what `check` says of files with these contents, a line each.
#[cfg(test)]
fn breaches_of(check: fn(&Tree) -> Vec<Breach>, files: &[(&str, &str)]) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    for (path, text) in files {
        let path = directory.path().join("project").join(path);
        std::fs::create_dir_all(path.parent().expect("in a folder")).expect("created");
        std::fs::write(path, text).expect("written");
    }
    let tree = Tree::of_folder(&directory.path().join("project")).expect("read");
    check(&tree).iter().map(Breach::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_alone() {
        assert!(has_word("use tuwen, tuwen-data", "tuwen", true));
        assert!(!has_word("use tuwen-data", "tuwen", true));
        assert!(has_word("(unsafe {", "unsafe", false) && !has_word("unsafe_code", "unsafe", false));
        assert!(!has_word("", "unsafe", false) && !has_word("eprintln!", "println!", false));
    }

    /// The project itself holds to what it asks for. Documents are left to `cargo xtask tidy`.
    #[test]
    fn the_code_of_this_project_is_tidy() {
        let tree = Tree::of_git(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))).expect("listed");
        let breaches: Vec<_> =
            [code::check, dependencies::check].iter().flat_map(|check| check(&tree)).collect();
        assert!(breaches.is_empty(), "{breaches:#?}");
    }
}
