//! A reader of an object: blocks of it are fetched when they are needed.

use std::io::{self, Read, Seek, SeekFrom};

use super::Object;

/// Bytes that are fetched at once. Members of a tar file that are longer are passed over.
const BLOCK: u64 = 1 << 20;

/// Reads an object from any position.
pub(in crate::dataset) struct Blocks {
    object: Object,
    position: u64,
    /// The block that was fetched last, and where it begins.
    block: (u64, Vec<u8>),
}

impl Blocks {
    pub(in crate::dataset) fn new(object: Object) -> Self {
        Self { object, position: 0, block: (0, Vec::new()) }
    }
}

impl Read for Blocks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.object.len();
        if self.position >= length || out.is_empty() {
            return Ok(0);
        }
        let start = self.position / BLOCK * BLOCK;
        if self.block.0 != start || self.block.1.is_empty() {
            let block = start..length.min(start + BLOCK);
            let bytes = self.object.read(&[block])?.pop().unwrap_or_default();
            self.block = (start, bytes);
        }
        let rest = self.block.1.get((self.position - start) as usize..).unwrap_or_default();
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Blocks {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, offset) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(offset) => (self.position, offset),
            SeekFrom::End(offset) => (self.object.len(), offset),
        };
        let outside = || io::Error::from(io::ErrorKind::InvalidInput);
        self.position = base.checked_add_signed(offset).ok_or_else(outside)?;
        Ok(self.position)
    }
}
