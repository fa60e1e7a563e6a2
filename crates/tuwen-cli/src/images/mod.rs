//! Image inputs: files, folders, patterns, tar shards, lists of names, and stdin.
//!
//! Inputs are visited one after the other as they are found, so that neither a large folder nor a long stream has to be
//! in memory.

mod archive;
mod files;
mod list;
mod stream;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow, bail};
use clap::{ArgGroup, Args};
use tuwen_data::image::SUFFIXES;

use crate::failure::Failure;
pub use list::Entries;

/// The largest image file that is taken from a stream or a tar file.
const MAX_BYTES: u64 = 1 << 30;

/// What stands for stdin.
pub const STDIN: &str = "-";

/// Where images come from.
#[derive(Args, Clone)]
pub struct ImageInputs {
    /// Images, folders, tar shards, patterns such as 'photos/*.jpg' or 'train-{0000..0003}.tar'; - is an image or a tar
    /// stream on stdin
    #[arg(value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// A list of images, folders and tar shards, one path a line; - is stdin
    #[arg(long, value_name = "FILE")]
    files_from: Option<PathBuf>,
    /// The entries of lists end with NUL instead of a line break, as `find -print0` writes them
    #[arg(short = '0', long)]
    pub null: bool,
    /// Decode large JPEG files at their full size, to the bit as Pillow does, not smaller where resizing hides it
    #[arg(long)]
    pub exact_decode: bool,
}

/// What a verb adds to [`ImageInputs`] that has nothing to do without images.
pub fn required() -> ArgGroup {
    ArgGroup::new("images or a list").args(["images", "files_from"]).multiple(true).required(true)
}

/// Inputs that are ready to be visited.
pub struct Images {
    images: Vec<PathBuf>,
    list: Option<Entries>,
}

/// An image that is to be decoded, or something that led to none.
pub struct Input {
    /// What the user calls it.
    pub name: String,
    /// Where its bytes are, or why they are nowhere.
    pub content: Result<Content>,
}

/// The bytes of an image file.
pub enum Content {
    /// In a file.
    File(PathBuf),
    /// Here.
    Bytes(Vec<u8>),
}

/// Is given the name of each input, and what gets at its content.
pub type Visitor<'v> = dyn FnMut(String, &mut dyn FnMut() -> Result<Content>) -> ControlFlow<()> + 'v;

impl ImageInputs {
    /// Refuses a run without images, and one that would read stdin twice.
    ///
    /// # Errors
    /// Either of these.
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_empty() {
            return Err(
                Failure::usage(anyhow!("there are no images")).hint("name some, or give --files-from")
            );
        }
        if self.uses_of_stdin() > 1 { Err(stdin_twice()) } else { Ok(()) }
    }

    /// The last argument, which is no image, and the images without it.
    pub fn split_last(&self) -> Option<(PathBuf, Self)> {
        let (last, images) = self.images.split_last()?;
        Some((last.clone(), Self { images: images.to_vec(), ..self.clone() }))
    }

    /// Whether no image is named.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && self.files_from.is_none()
    }

    /// How many of the inputs are stdin.
    pub fn uses_of_stdin(&self) -> usize {
        let listed = self.files_from.iter();
        self.images.iter().chain(listed).filter(|path| path.as_os_str() == STDIN).count()
    }

    /// Opens the list.
    ///
    /// # Errors
    /// A list that cannot be opened, or stdin named twice.
    pub fn open(&self) -> Result<Images, Failure> {
        if self.uses_of_stdin() > 1 {
            return Err(stdin_twice());
        }
        let list = self.files_from.as_deref().map(|path| Entries::open(path, self.null)).transpose();
        Ok(Images { images: self.images.clone(), list: list.map_err(Failure::usage)? })
    }

    /// The number of inputs, if that can be told without reading what can be read only once.
    pub fn count(&self, stop: &AtomicBool) -> Option<u64> {
        let paths = self.images.iter().chain(&self.files_from);
        if paths.into_iter().any(|path| is_stream(path)) {
            return None;
        }
        let mut count = 0;
        let visited = self.open().ok()?.visit(&mut |_, _| {
            count += 1;
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        visited.is_continue().then_some(count)
    }
}

impl Images {
    /// Visits the inputs in order: those of the command line, then those of the list. Folders are sorted by name.
    pub fn visit(self, each: &mut Visitor<'_>) -> ControlFlow<()> {
        for argument in &self.images {
            files::visit_argument(argument, each)?;
        }
        match self.list {
            Some(list) => list::visit(list, each),
            None => ControlFlow::Continue(()),
        }
    }
}

/// What to say when two inputs want to read stdin.
pub fn stdin_twice() -> Failure {
    Failure::usage(anyhow!("stdin can be read only once, but - is given several times"))
}

/// Whether a path can be read only once: stdin, a pipe, a device.
fn is_stream(path: &Path) -> bool {
    let is_special = |path| fs::metadata(path).is_ok_and(|data| !data.is_file() && !data.is_dir());
    path.as_os_str() == STDIN || is_special(path)
}

/// Visits an input that leads to no image.
fn visit_failure(name: impl Into<String>, error: anyhow::Error, each: &mut Visitor<'_>) -> ControlFlow<()> {
    let mut error = Some(error);
    each(name.into(), &mut || Err(error.take().unwrap_or_else(|| anyhow!("cannot be read again"))))
}

/// Whether a name ends like that of an image, which decides in folders and tar files; a file that is named is read
/// whatever its ending.
fn is_image(path: &Path) -> bool {
    has_suffix(path, &SUFFIXES)
}

fn has_suffix(path: &Path, suffixes: &[&str]) -> bool {
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).map(str::to_ascii_lowercase);
    suffix.is_some_and(|suffix| suffixes.contains(&suffix.as_str()))
}

/// The reason for which a place has no image in it.
fn no_images() -> anyhow::Error {
    anyhow!("no images here (looked for {})", SUFFIXES.join(", "))
}

/// Refuses what is too large for an image file.
fn check_size(size: u64) -> Result<()> {
    if size > MAX_BYTES {
        bail!("too large for an image file: {size} bytes, at most {MAX_BYTES} are read");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
