//! Text inputs: from the command line, a file or stdin.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::failure::Failure;
use crate::images::{Entries, STDIN};

/// Where texts come from.
#[derive(Args)]
pub struct TextInputs {
    /// A text; may be given several times
    #[arg(long = "text", value_name = "TEXT")]
    texts: Vec<String>,
    /// A file with one text a line (a blank line is an empty text); - is stdin
    #[arg(long, value_name = "FILE")]
    text_file: Option<PathBuf>,
}

/// Texts that are read as they are asked for: each with what it is called, which is itself if it could be read.
pub struct Texts {
    given: std::vec::IntoIter<String>,
    file: Option<Entries>,
}

impl TextInputs {
    /// Whether no text is named.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.text_file.is_none()
    }

    /// How many of the inputs are stdin.
    pub fn uses_of_stdin(&self) -> usize {
        self.text_file.iter().filter(|path| path.as_os_str() == STDIN).count()
    }

    /// Opens the file; `null` says that its texts end with NUL.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(&self, null: bool) -> Result<Texts, Failure> {
        let file = self.text_file.as_deref().map(|path| Entries::open(path, null)).transpose();
        Ok(Texts { given: self.texts.clone().into_iter(), file: file.map_err(Failure::usage)? })
    }

    /// All texts.
    ///
    /// # Errors
    /// A file that cannot be read or is not UTF-8.
    pub fn read(&self, null: bool) -> Result<Vec<String>, Failure> {
        let texts = self.open(null)?.map(|(place, text)| text.context(place));
        texts.collect::<Result<_>>().map_err(Failure::usage)
    }
}

impl Iterator for Texts {
    type Item = (String, Result<String>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(text) = self.given.next() {
            return Some((text.clone(), Ok(text)));
        }
        let file = self.file.as_mut()?;
        let text = file.next()?.and_then(|bytes| String::from_utf8(bytes).context("not UTF-8"));
        Some((text.as_ref().map_or_else(|_| file.place(), String::clone), text))
    }
}
