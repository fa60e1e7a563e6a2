//! Class labels from the command line or a file.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;

use crate::console::Console;
use crate::failure::Failure;

/// Where labels come from.
#[derive(Args)]
pub struct LabelOptions {
    /// Labels, separated by commas
    #[arg(long, value_name = "A,B,C")]
    labels: Option<String>,
    /// A file with one label a line (a label may contain commas there)
    #[arg(long, value_name = "FILE")]
    labels_file: Option<PathBuf>,
}

impl LabelOptions {
    /// Whether the user gave any.
    pub fn are_given(&self) -> bool {
        self.labels.is_some() || self.labels_file.is_some()
    }

    /// The labels in the order in which they are first given, without blanks and repetitions.
    pub fn read(&self, console: &Console) -> Result<Vec<String>, Failure> {
        let mut given: Vec<String> = Vec::new();
        if let Some(labels) = &self.labels {
            given.extend(labels.split(',').map(str::to_owned));
        }
        if let Some(path) = &self.labels_file {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string());
            given.extend(
                text.map_err(Failure::usage)?.trim_start_matches('\u{feff}').lines().map(str::to_owned),
            );
        }
        let (labels, blank, repeated) = clean(&given);
        if blank > 0 {
            console.note(format_args!("note: dropped {blank} blank label{}", plural(blank)));
        }
        if !repeated.is_empty() {
            console.note(format_args!("note: given more than once, used once: {}", repeated.join(", ")));
        }
        if labels.is_empty() {
            let hint = "give --labels cat,dog or --labels-file FILE with one label a line";
            return Err(Failure::usage(anyhow!("there are no labels")).hint(hint));
        }
        Ok(labels)
    }
}

/// Labels, the number of blank ones, and those that were repeated.
fn clean(given: &[String]) -> (Vec<String>, usize, Vec<String>) {
    let (mut labels, mut blank, mut repeated) = (Vec::<String>::new(), 0, Vec::<String>::new());
    for label in given.iter().map(|label| label.trim()) {
        let known = |list: &[String]| list.iter().any(|seen| seen == label);
        if label.is_empty() {
            blank += 1;
        } else if !known(&labels) {
            labels.push(label.to_owned());
        } else if !known(&repeated) {
            repeated.push(label.to_owned());
        }
    }
    (labels, blank, repeated)
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
        let (labels, blank, repeated) = clean(&given);
        assert_eq!(labels, ["cat", "dog", "Cat"]);
        assert_eq!((blank, repeated), (2, vec!["cat".to_owned()]));
    }
}
