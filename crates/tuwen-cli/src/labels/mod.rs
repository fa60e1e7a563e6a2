//! Class labels and prompt templates, from the command line or files.

mod advice;
pub mod lists;
mod templates;

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;

use crate::console::Console;
use crate::failure::Failure;
pub use advice::{note_mixed_languages, note_unknown_scripts};
pub use templates::TemplateOptions;

/// Where labels come from.
#[derive(Args)]
pub struct LabelOptions {
    /// Labels, separated by commas
    #[arg(long, value_name = "A,B,C")]
    labels: Option<String>,
    /// A file with one label a line (a label may contain commas there), or a .json file: a list, or a list for each of
    /// several data sets
    #[arg(long, value_name = "FILE")]
    labels_file: Option<PathBuf>,
    /// The data set whose labels or templates are taken from .json files that hold several
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
}

impl LabelOptions {
    /// Whether the user gave any.
    pub fn are_given(&self) -> bool {
        self.labels.is_some() || self.labels_file.is_some()
    }

    /// The labels in the order in which they are first given, without blanks and repetitions.
    ///
    /// # Errors
    /// A file that cannot be used, or no labels.
    pub fn read(&self, console: &Console) -> Result<Vec<String>, Failure> {
        let mut given: Vec<String> = Vec::new();
        if let Some(labels) = &self.labels {
            given.extend(labels.split(',').map(str::to_owned));
        }
        if let Some(path) = &self.labels_file {
            given.extend(lists::read(path, self.dataset())?);
        }
        let labels = clean(&given, "label", console);
        if labels.is_empty() {
            let hint = "give --labels cat,dog or --labels-file FILE with one label a line";
            return Err(Failure::usage(anyhow!("there are no labels")).hint(hint));
        }
        Ok(labels)
    }

    /// Refuses the name of a data set where there is no file to take it from.
    ///
    /// # Errors
    /// That.
    pub fn check_dataset(&self, templates_file: Option<&PathBuf>) -> Result<(), Failure> {
        let mut files = self.labels_file.iter().chain(templates_file);
        match &self.dataset {
            Some(name) if !files.any(|file| lists::is_json(file)) => {
                let error = anyhow!("there is no file to take the data set {name:?} from");
                Err(Failure::usage(error).hint("give a .json file with --labels-file or --templates-file"))
            }
            _ => Ok(()),
        }
    }

    /// The name of a data set.
    pub fn dataset(&self) -> Option<&str> {
        self.dataset.as_deref()
    }

    /// The file, if labels come from one.
    pub fn file(&self) -> Option<&PathBuf> {
        self.labels_file.as_ref()
    }
}

/// What is given, trimmed, without blanks and repetitions; those are told.
pub fn clean(given: &[String], noun: &str, console: &Console) -> Vec<String> {
    let (kept, blank, repeated) = sort_out(given);
    if blank > 0 {
        console.note(format_args!("note: dropped {blank} blank {noun}{}", plural(blank)));
    }
    if !repeated.is_empty() {
        console.note(format_args!("note: given more than once, used once: {}", repeated.join(", ")));
    }
    kept
}

/// What is of use, the number of blank ones, and those that were repeated.
fn sort_out(given: &[String]) -> (Vec<String>, usize, Vec<String>) {
    let (mut kept, mut blank, mut repeated) = (Vec::<String>::new(), 0, Vec::<String>::new());
    for entry in given.iter().map(|entry| entry.trim()) {
        let known = |list: &[String]| list.iter().any(|seen| seen == entry);
        if entry.is_empty() {
            blank += 1;
        } else if !known(&kept) {
            kept.push(entry.to_owned());
        } else if !known(&repeated) {
            repeated.push(entry.to_owned());
        }
    }
    (kept, blank, repeated)
}

/// The ending of a noun after a number.
pub fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_repetitions_go() {
        let given = ["cat", " dog ", "", "cat", "  ", "cat", "Cat"].map(str::to_owned);
        let (labels, blank, repeated) = sort_out(&given);
        assert_eq!(labels, ["cat", "dog", "Cat"]);
        assert_eq!((blank, repeated), (2, vec!["cat".to_owned()]));
    }
}
