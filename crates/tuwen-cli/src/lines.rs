//! Results a line each: to stdout, or as JSON to a file that appears when it is whole.

use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use tuwen_tensor::checkpoint::write_atomically;

use crate::console::Console;
use crate::failure::Failure;

/// Where lines go.
pub enum Lines<'a> {
    /// To stdout.
    Console(&'a Console),
    /// To a file.
    File(&'a mut BufWriter<std::fs::File>),
}

/// Refuses a place where no file can be written, before anything is computed that would be lost.
///
/// # Errors
/// What the system says of it.
pub fn check_place(path: &Path) -> Result<(), Failure> {
    let mut possible = false;
    let tried = write_atomically(path, |_| {
        possible = true;
        Err(std::io::Error::other("there is nothing to write yet"))
    });
    match tried {
        Err(error) if !possible => Err(Failure::usage(error)),
        _ => Ok(()),
    }
}

impl Lines<'_> {
    /// Refuses the name of a file that would not tell what is in it, and a place where none can be written.
    ///
    /// # Errors
    /// An ending other than `.jsonl`; see [`check_place`].
    pub fn check(output: Option<&Path>) -> Result<(), Failure> {
        let Some(path) = output else { return Ok(()) };
        if path.extension().is_none_or(|suffix| suffix != "jsonl") {
            let error = anyhow!("{}: only JSON lines are written here", path.display());
            return Err(Failure::usage(error).hint("give the file the ending .jsonl"));
        }
        check_place(path)
    }

    /// Lets `work` put lines.
    ///
    /// # Errors
    /// Those of `work`, and a file that cannot be written; then there is none.
    pub fn write<T>(
        output: Option<&Path>,
        console: &Console,
        work: impl FnOnce(&mut Lines<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Some(path) = output else { return work(&mut Lines::Console(console)) };
        let mut outcome = None;
        let written = write_atomically(path, |out| match work(&mut Lines::File(out)) {
            Ok(done) => {
                outcome = Some(Ok(done));
                Ok(())
            }
            Err(failure) => {
                outcome = Some(Err(failure));
                Err(std::io::Error::other("the work failed"))
            }
        });
        match outcome {
            Some(Err(failure)) => Err(failure),
            Some(Ok(done)) => Ok(written.map(|()| done)?),
            None => Err(written.map_or_else(Failure::usage, |()| anyhow!("nothing was written").into())),
        }
    }

    /// Whether lines are JSON.
    pub fn json(&self) -> bool {
        match self {
            Self::Console(console) => console.json,
            Self::File(_) => true,
        }
    }

    /// Puts a line; for people `shown` says how it looks.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn put<L: Serialize>(&mut self, line: &L, shown: impl FnOnce(&L) -> String) -> Result<(), Failure> {
        match self {
            Self::Console(console) if console.json => console.print(serde_json::to_string(line)?),
            Self::Console(console) => console.print(shown(line)),
            Self::File(file) => {
                Ok(writeln!(file, "{}", serde_json::to_string(line)?).context("cannot write the results")?)
            }
        }
    }
}
