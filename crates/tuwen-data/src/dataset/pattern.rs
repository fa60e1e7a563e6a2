//! Names of several files at once: `train-{0000..0003}.tar`, `{a,b}.tar`, `part-*.parquet`.

use std::path::{Path, PathBuf};

use super::DataError;

/// The most names that braces may stand for.
const MAX_NAMES: usize = 1_000_000;

/// The files that a pattern stands for: braces in the order written, `*` and `?` in the file name in sorted order.
/// A path that exists is taken as it is, whatever characters it has.
pub(super) fn expand(pattern: &Path) -> Result<Vec<PathBuf>, DataError> {
    if pattern.exists() {
        return Ok(vec![pattern.to_owned()]);
    }
    let error = |problem| DataError::Pattern { pattern: pattern.display().to_string(), problem };
    let text = pattern.to_str().ok_or_else(|| error("not UTF-8"))?;
    let mut paths = Vec::new();
    for name in braces(text).map_err(error)? {
        let path = PathBuf::from(&name);
        if name.contains(['*', '?']) && !path.exists() {
            let matched = matching_files(&path)?;
            if matched.is_empty() {
                return Err(DataError::NoMatch(name));
            }
            paths.extend(matched);
        } else {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The addresses that a pattern stands for: braces in the order written. A store is not asked what else it holds.
pub(super) fn expand_url(pattern: &Path) -> Result<Vec<String>, DataError> {
    let error = |problem| DataError::Pattern { pattern: pattern.display().to_string(), problem };
    let text = pattern.to_str().ok_or_else(|| error("not UTF-8"))?;
    if text.contains(['*', '?']) {
        return Err(error("a store takes no * or ?: write {0000..0003} for several files"));
    }
    braces(text).map_err(error)
}

/// Files whose name matches the last part of the path, sorted.
fn matching_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let error = |problem| DataError::Pattern { pattern: path.display().to_string(), problem };
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| error("no file name"))?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if folder.to_string_lossy().contains(['*', '?']) {
        return Err(error("* and ? may stand in the file name only"));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        if entry.file_name().to_str().is_some_and(|found| matches(name.as_bytes(), found.as_bytes())) {
            files.push(path.with_file_name(entry.file_name()));
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a name matches a pattern in which `*` stands for any bytes and `?` for one.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while read < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                last_star = Some((at, read));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[read] => {
                at += 1;
                read += 1;
            }
            _ => match &mut last_star {
                // The star takes one byte more.
                Some((star, taken)) => {
                    *taken += 1;
                    (at, read) = (*star + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// All names that one with braces stands for (`{a,b}`, `{0000..0003}`), in order; braces do not nest.
///
/// # Errors
/// What is wrong with the braces.
pub fn braces(text: &str) -> Result<Vec<String>, &'static str> {
    let Some((before, rest)) = text.split_once('{') else { return Ok(vec![text.to_owned()]) };
    let (inside, after) = rest.split_once('}').ok_or("a brace is not closed")?;
    if inside.contains('{') {
        return Err("braces may not nest");
    }
    let choices = match inside.split_once("..") {
        Some((first, last)) => number_range(first, last)?,
        None => inside.split(',').map(str::to_owned).collect(),
    };
    let endings = braces(after)?;
    if choices.len().saturating_mul(endings.len()) > MAX_NAMES {
        return Err("stands for too many files");
    }
    let join = |choice: &String| {
        let start = format!("{before}{choice}");
        endings.iter().map(move |ending| format!("{start}{ending}")).collect::<Vec<_>>()
    };
    Ok(choices.iter().flat_map(join).collect())
}

/// `0008..0011`: as many digits as the first number is written with.
fn number_range(first: &str, last: &str) -> Result<Vec<String>, &'static str> {
    let parse = |text: &str| text.parse::<usize>().map_err(|_| "expected {FIRST..LAST} with two numbers");
    let (low, high) = (parse(first)?, parse(last)?);
    if low > high {
        return Err("the range runs backwards");
    }
    if high - low >= MAX_NAMES {
        return Err("stands for too many files");
    }
    Ok((low..=high).map(|number| format!("{number:0width$}", width = first.len())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_expand_in_order() {
        assert_eq!(braces("a-{008..011}.tar").unwrap(), ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]);
        assert_eq!(braces("{b,a}/{0..1}").unwrap(), ["b/0", "b/1", "a/0", "a/1"]);
        assert_eq!(braces("plain").unwrap(), ["plain"]);
        for bad in ["{0..", "{3..1}", "{a..b}", "{{0..1}}", "{0..99999999}", "{0..999}{0..9999}"] {
            assert!(braces(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stars_match() {
        for (pattern, name, expected) in [
            ("*.tar", "a.tar", true),
            ("*.tar", "a.tar.gz", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_found_and_sorted() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.tar", "a.tar", "c.txt", "odd{1}.tar"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = expand(&folder.path().join("?.tar")).unwrap();
        assert_eq!(found, [folder.path().join("a.tar"), folder.path().join("b.tar")]);
        assert_eq!(expand(&folder.path().join("odd{1}.tar")).unwrap().len(), 1);
        assert!(matches!(expand(&folder.path().join("*.parquet")), Err(DataError::NoMatch(_))));
        assert!(matches!(expand(Path::new("/*/x*.tar")), Err(DataError::Pattern { .. })));
        assert_eq!(expand_url(Path::new("s3://b/{1..2}.tar")).unwrap(), ["s3://b/1.tar", "s3://b/2.tar"]);
        assert!(matches!(expand_url(Path::new("s3://b/*.tar")), Err(DataError::Pattern { .. })));
    }
}
