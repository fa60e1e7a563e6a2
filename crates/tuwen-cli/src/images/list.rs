//! Lists in files or on stdin: paths of images, texts.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};

use super::{STDIN, Visitor, files, visit_failure};

/// The longest entry of a list.
const MAX_ENTRY: u64 = 1 << 20;

/// The entries of a list, read as they are asked for.
pub struct Entries {
    name: String,
    reader: Box<dyn BufRead + Send>,
    delimiter: u8,
    number: u64,
    ended: bool,
}

impl Entries {
    /// Opens a list; `null` says that its entries end with NUL and not with a line break.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(path: &Path, null: bool) -> Result<Self> {
        let name = path.display().to_string();
        let reader: Box<dyn BufRead + Send> = if path.as_os_str() == STDIN {
            Box::new(BufReader::new(io::stdin()))
        } else {
            Box::new(BufReader::new(File::open(path).with_context(|| name.clone())?))
        };
        Ok(Self { name, reader, delimiter: if null { 0 } else { b'\n' }, number: 0, ended: false })
    }

    /// What the latest entry is called: the list and its number in it, from 1.
    pub fn place(&self) -> String {
        format!("{}:{}", self.name, self.number)
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>> {
        let mut entry = Vec::new();
        self.reader.by_ref().take(MAX_ENTRY).read_until(self.delimiter, &mut entry)?;
        let ended = entry.pop_if(|last| *last == self.delimiter).is_some();
        if !ended && entry.len() as u64 == MAX_ENTRY {
            return Err(anyhow!("longer than {MAX_ENTRY} bytes, what follows is not read"));
        }
        if self.delimiter == b'\n' {
            entry.pop_if(|last| *last == b'\r');
            if self.number == 1 && entry.starts_with("\u{feff}".as_bytes()) {
                entry.drain(.."\u{feff}".len());
            }
        }
        Ok((ended || !entry.is_empty()).then_some(entry))
    }
}

impl Iterator for Entries {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        self.number += 1;
        let entry = self.read().transpose();
        self.ended = !matches!(entry, Some(Ok(_)));
        entry
    }
}

/// Visits the images, folders and tar files that a list names; blank entries are passed over.
pub fn visit(mut list: Entries, each: &mut Visitor<'_>) -> ControlFlow<()> {
    while let Some(entry) = list.next() {
        match entry.and_then(path_of) {
            Ok(path) if path.as_os_str().is_empty() => {}
            Ok(path) => files::visit_path(&path, each)?,
            Err(error) => visit_failure(list.place(), error, each)?,
        }
    }
    ControlFlow::Continue(())
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    Ok(std::ffi::OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> Result<PathBuf> {
    Ok(String::from_utf8(bytes).context("not UTF-8")?.into())
}
