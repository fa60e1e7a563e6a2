//! Files with a list of texts: one a line, or JSON as CLIP benchmarks keep class names and templates.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;
use tuwen_data::files::read_text;

use crate::failure::Failure;

/// The longest file that is read, in bytes: a million labels.
const LONGEST: u64 = 64 << 20;

/// The texts of a file. A `.json` file holds a list, or an object with a list for each data set; `dataset` says which.
///
/// # Errors
/// A file that cannot be read, that is neither, or that does not hold the data set.
pub fn read(path: &Path, dataset: Option<&str>) -> Result<Vec<String>, Failure> {
    let text =
        read_text(path, LONGEST).with_context(|| path.display().to_string()).map_err(Failure::usage)?;
    let text = text.trim_start_matches('\u{feff}');
    if !is_json(path) {
        return Ok(text.lines().map(str::to_owned).collect());
    }
    let value: Value =
        serde_json::from_str(text).with_context(|| path.display().to_string()).map_err(Failure::usage)?;
    let (name, list) = choose(&value, dataset, path)?;
    strings(list).map_err(|problem| {
        let of = name.map_or(String::new(), |name| format!("data set {name:?}: "));
        Failure::usage(anyhow!("{}: {of}{problem}", path.display()))
    })
}

/// Whether a file is taken for JSON.
pub fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("json"))
}

/// The list of a data set, and its name where it has one.
fn choose<'v>(
    value: &'v Value,
    dataset: Option<&str>,
    path: &Path,
) -> Result<(Option<&'v str>, &'v Value), Failure> {
    let Some(sets) = value.as_object() else { return Ok((None, value)) };
    let names = || sets.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let chosen = match dataset {
        Some(name) => sets.get_key_value(name),
        None if sets.len() == 1 => sets.iter().next(),
        None => {
            let error = anyhow!("{} holds {} data sets", path.display(), sets.len());
            return Err(Failure::usage(error).hint(format!("choose one with --dataset: {}", names())));
        }
    };
    chosen.map(|(name, list)| (Some(name.as_str()), list)).ok_or_else(|| {
        let error = anyhow!("{} has no data set {:?}", path.display(), dataset.unwrap_or_default());
        Failure::usage(error).hint(format!("it has: {}", names()))
    })
}

fn strings(list: &Value) -> Result<Vec<String>> {
    let list =
        list.as_array().context("expected a list of texts, or an object with a list for each data set")?;
    let text = |(i, entry): (usize, &Value)| {
        entry.as_str().map(str::to_owned).with_context(|| format!("entry {} is no text: {entry}", i + 1))
    };
    list.iter().enumerate().map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn outcome(name: &str, text: &str, dataset: Option<&str>) -> Result<Vec<String>, String> {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join(name);
        fs::write(&path, text).expect("written");
        read(&path, dataset).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_list_is_found_in_each_form() {
        let sets = r#"{"pets": ["cat", "dog"], "cars": ["Audi"], "none": []}"#;
        assert_eq!(
            outcome("a.txt", "\u{feff}[cat\ndog, big\r\n", None).expect("lines"),
            ["[cat", "dog, big"]
        );
        assert_eq!(outcome("a.json", r#"["cat", "dog"]"#, Some("pets")).expect("a list"), ["cat", "dog"]);
        assert_eq!(outcome("a.JSON", sets, Some("pets")).expect("a set"), ["cat", "dog"]);
        assert_eq!(outcome("a.json", r#"{"pets": ["cat"]}"#, None).expect("the only set"), ["cat"]);
        assert!(outcome("a.json", sets, Some("none")).expect("a set").is_empty());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let sets = r#"{"pets": ["cat", 7], "cars": {"Audi": 1}}"#;
        for (text, dataset, expected) in [
            (sets, None, "a.json holds 2 data sets\nhint: choose one with --dataset: "),
            (sets, Some("birds"), "a.json has no data set \"birds\"\nhint: it has: "),
            (sets, Some("pets"), "data set \"pets\": entry 2 is no text: 7"),
            (sets, Some("cars"), "data set \"cars\": expected a list of texts"),
            ("3", None, "a.json: expected a list of texts"),
            ("[\"cat\"", None, "a.json: EOF"),
        ] {
            let said = outcome("a.json", text, dataset).expect_err("refused");
            assert!(said.contains(expected), "{said}");
        }
    }
}
