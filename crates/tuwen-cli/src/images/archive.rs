//! Tar files (WebDataset shards): their images one after the other, never unpacked.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use tar::{Archive, Entries, Entry, EntryType};

use super::{Content, Visitor, check_size, is_image, no_images, visit_failure};

/// Bytes of a block of a tar file.
pub const BLOCK: u64 = 512;

/// Whether bytes begin like a tar file: with a header whose checksum holds, or with the mark of its end.
pub fn begins(head: &[u8]) -> bool {
    let Some(block) = head.get(..BLOCK as usize) else { return false };
    let header = tar::Header::from_byte_slice(block);
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    let own: u32 = header.as_old().cksum.iter().map(|&byte| u32::from(byte)).sum();
    let spaces = 8 * u32::from(b' ');
    sum == 0 || header.cksum().is_ok_and(|stored| stored == sum - own + spaces)
}

/// Visits the images of a tar file; what is of no use is not read.
pub fn visit_file(path: &Path, each: &mut Visitor<'_>) -> ControlFlow<()> {
    let name = path.to_string_lossy();
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (length, file) = match opened {
        Ok(opened) => opened,
        Err(error) => return visit_failure(name, error.into(), each),
    };
    let mut archive = Archive::new(file);
    match archive.entries_with_seek() {
        Ok(entries) => visit_entries(&name, entries, &|| length, each),
        Err(error) => visit_failure(name, error.into(), each),
    }
}

/// Visits the images of a tar stream.
pub fn visit_stream(name: &str, stream: impl Read, each: &mut Visitor<'_>) -> ControlFlow<()> {
    let read = Cell::new(0);
    let mut archive = Archive::new(Counted { stream, read: &read });
    match archive.entries() {
        Ok(entries) => visit_entries(name, entries, &|| read.get(), each),
        Err(error) => visit_failure(name, error.into(), each),
    }
}

/// Visits the images among entries. `length` tells how many bytes there are, at the latest once the last is read.
fn visit_entries<R: Read>(
    name: &str,
    entries: Entries<'_, R>,
    length: &dyn Fn() -> u64,
    each: &mut Visitor<'_>,
) -> ControlFlow<()> {
    let mut last = String::from("the beginning");
    let (mut end, mut images) = (0_u64, 0_u64);
    for entry in entries {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) => return visit_failure(name, anyhow!("broken off after {last}: {error}"), each),
        };
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        end = entry.raw_file_position().saturating_add(entry.size()).div_ceil(BLOCK).saturating_mul(BLOCK);
        if is_wanted(&path, entry.header().entry_type()) {
            images += 1;
            let cut = Cell::new(false);
            each(format!("{name}/{path}"), &mut || read(&mut entry, &cut))?;
            if cut.get() {
                return ControlFlow::Continue(());
            }
        }
        last = path;
    }
    if end.saturating_add(BLOCK) > length() {
        visit_failure(name, anyhow!("cut off after {last}: the mark of the end is missing"), each)
    } else if images == 0 {
        visit_failure(name, no_images(), each)
    } else {
        ControlFlow::Continue(())
    }
}

/// Whether a member is, or should be, an image; hidden ones are passed over as in folders.
fn is_wanted(path: &str, kind: EntryType) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    is_image(Path::new(path)) && !file.starts_with('.') && !kind.is_dir()
}

/// The bytes of a member; `cut` is set where the tar file ends within it.
fn read<R: Read>(entry: &mut Entry<'_, R>, cut: &Cell<bool>) -> Result<Content> {
    if !entry.header().entry_type().is_file() {
        bail!("not a file of its own but a link or the like");
    }
    let size = entry.size();
    check_size(size)?;
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < size {
        cut.set(true);
        bail!("the tar file is cut off within it, after {} of {size} bytes", bytes.len());
    }
    Ok(Content::Bytes(bytes))
}

/// A stream that counts what was read of it.
struct Counted<'c, R> {
    stream: R,
    read: &'c Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}
