//! Files: how long they are, how they begin, how large they are, and what may not be among them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Breach;
use super::tree::{Tree, files_below};

/// Lines of a source file, and below what their median stays.
const LONGEST: usize = 600;
const MEDIAN: usize = 200;

/// Bytes of a file that is committed.
const LARGEST: u64 = 12_500_000;

/// Smaller files may agree with one of the golden cases by chance.
const COPY: u64 = 1000;

pub fn check(tree: &Tree) -> Vec<Breach> {
    [sources(tree), sizes(tree), copies(tree)].into_iter().flatten().collect()
}

fn sources(tree: &Tree) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut lengths = Vec::new();
    for source in &tree.sources {
        if !source.is_introduced() {
            breaches.push(Breach::new(
                &source.path,
                1,
                "does not begin with a `//!` comment that says what it is",
            ));
        }
        let length =
            source.lines.len() - usize::from(source.lines.last().is_some_and(|line| line.code.is_empty()));
        if length > LONGEST {
            breaches.push(Breach::new(
                &source.path,
                LONGEST + 1,
                format!("{length} lines, at most {LONGEST} wanted"),
            ));
        }
        lengths.push(length);
    }
    lengths.sort_unstable();
    if let Some(&median) = lengths.get(lengths.len() / 2).filter(|&&median| median >= MEDIAN) {
        let what = format!("the median source file has {median} lines, fewer than {MEDIAN} wanted");
        breaches.push(Breach::new("crates", 1, what));
    }
    breaches
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

fn sizes(tree: &Tree) -> Vec<Breach> {
    let sizes = tree.files.iter().map(|path| (path, size(&tree.root.join(path))));
    let large = sizes.filter(|(_, size)| *size > LARGEST);
    large
        .map(|(path, size)| Breach::new(path, 1, format!("{size} bytes, at most {LARGEST} are committed")))
        .collect()
}

/// Golden cases and data sets lie beside the project, in `../shared`, and stay there; only photographs that are free
/// of restrictions may be examples.
fn copies(tree: &Tree) -> Vec<Breach> {
    let shared = tree.root.join("../shared");
    let mut by_size: HashMap<u64, Vec<PathBuf>> = HashMap::new();
    for folder in ["fixtures", "data"].map(|folder| shared.join(folder)) {
        for path in files_below(&folder) {
            let path = folder.join(path);
            by_size.entry(size(&path)).or_default().push(path);
        }
    }
    let original = |path: &str| {
        let path = tree.root.join(path);
        let candidates = by_size.get(&size(&path)).filter(|_| size(&path) >= COPY)?;
        let bytes = std::fs::read(path).ok()?;
        candidates.iter().find(|candidate| std::fs::read(candidate).is_ok_and(|other| other == bytes))
    };
    // A line of JSON for each photograph, with its licence.
    let index = std::fs::read_to_string(shared.join("data/photos/index.jsonl")).unwrap_or_default();
    let is_free = |path: &str| {
        let of_file = |name: &str| index.lines().find(|line| line.contains(&format!("\"file\": \"{name}\"")));
        let licence = path.strip_prefix("examples/photos/").and_then(of_file);
        licence.is_some_and(|line| {
            ["CC0", "public domain"].iter().any(|free| line.contains(&format!("\"licence\": \"{free}")))
        })
    };
    let mut breaches = Vec::new();
    for path in &tree.files {
        if is_free(path) {
            continue;
        }
        if path.split('/').any(|folder| folder == "shared") {
            breaches.push(Breach::new(path, 1, "`shared` stays beside the project"));
        } else if let Some(original) = original(path) {
            let original = original.strip_prefix(&shared).unwrap_or(original);
            breaches.push(Breach::new(path, 1, format!("a copy of ../shared/{}", original.display())));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::super::breaches_of;
    use super::*;

    #[test]
    fn sources_are_introduced_and_short() {
        let lines = |count: usize| format!("//! x\n{}", "y\n".repeat(count - 1));
        assert_eq!(
            breaches_of(check, &[("a.rs", "//! x"), ("b.rs", &lines(600)), ("c.rs", "//! x\n")]),
            [""; 0]
        );
        assert_eq!(
            breaches_of(check, &[("a.rs", "//! x"), ("b.rs", &lines(601)), ("c.rs", "//! x")]),
            ["b.rs:601: 601 lines, at most 600 wanted"]
        );
        assert_eq!(
            breaches_of(check, &[("a.rs", "use a;\n//! x")]),
            ["a.rs:1: does not begin with a `//!` comment that says what it is"]
        );
        let (short, long) = (lines(199), lines(200));
        assert_eq!(breaches_of(check, &[("a.rs", &long), ("b.rs", &short), ("c.rs", &short)]), [""; 0]);
        assert_eq!(
            breaches_of(check, &[("a.rs", &long), ("b.rs", &long), ("c.rs", &short)]),
            ["crates:1: the median source file has 200 lines, fewer than 200 wanted"]
        );
    }

    #[test]
    fn large_files_stay_out() {
        assert_eq!(breaches_of(check, &[("a", &"x".repeat(12_500_000))]), [""; 0]);
        let said = breaches_of(check, &[("a", &"x".repeat(12_500_001))]);
        assert_eq!(said, ["a:1: 12500001 bytes, at most 12500000 are committed"]);
    }

    #[test]
    fn golden_cases_stay_where_they_are() {
        let (text, other) = ("a".repeat(2000), "b".repeat(2000));
        let original = ("../shared/fixtures/clip/x.json", &text[..]);
        assert_eq!(breaches_of(check, &[original, ("crates/a/tests/y.json", &other)]), [""; 0]);
        assert_eq!(
            breaches_of(check, &[original, ("crates/a/tests/y.json", &text)]),
            ["crates/a/tests/y.json:1: a copy of ../shared/fixtures/clip/x.json"]
        );
        assert_eq!(breaches_of(check, &[("../shared/data/x", "a"), ("y", "a")]), [""; 0]);
        for (licence, expected) in [("CC0 (somebody)", 0), ("repository MIT", 1)] {
            let index = format!("{{\"file\": \"x.jpg\", \"licence\": \"{licence}\"}}");
            let index = ("../shared/data/photos/index.jsonl", &index[..]);
            let photograph = ("../shared/data/photos/x.jpg", &text[..]);
            let said = breaches_of(check, &[index, photograph, ("examples/photos/x.jpg", &text)]);
            assert_eq!(said.len(), expected, "{licence}");
        }
        assert_eq!(
            breaches_of(check, &[("shared/x", "a")]),
            ["shared/x:1: `shared` stays beside the project"]
        );
    }
}
