//! Ranges of a file or an object, as the Parquet reader asks for them.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use parquet::errors::Result;
use parquet::file::reader::{ChunkReader, Length};

use super::place::{Place, ReadSeek};

/// A file that is read in ranges. Each reader has a position of its own, so that threads do not disturb each other.
pub(super) struct Chunks {
    place: Arc<Place>,
    length: u64,
}

impl Chunks {
    pub(super) fn of(place: Arc<Place>) -> io::Result<Self> {
        Ok(Self { length: place.len()?, place })
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<Ending>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut reader = self.place.open()?;
        reader.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(Ending { reader, reads: 0 }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes> {
        let range = start..start.saturating_add(length as u64);
        Ok(self.place.read(&[range])?.pop().unwrap_or_default().into())
    }
}

/// A reader that is patient at its end, but not for ever: over a damaged header the Parquet library skips billions of
/// elements that are not there, and takes nothing read for a success each time.
pub(super) struct Ending {
    reader: Box<dyn ReadSeek>,
    /// How often there was nothing left.
    reads: usize,
}

impl Read for Ending {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const PATIENCE: usize = 1000;
        let count = self.reader.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.reads += 1;
            if self.reads > PATIENCE {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_not_read_for_ever() {
        let mut ending = Ending { reader: Box::new(io::Cursor::new(vec![1, 2, 3])), reads: 0 };
        let mut text = Vec::new();
        assert_eq!(ending.read_to_end(&mut text).unwrap(), 3);
        let mut buffer = [0; 8];
        let error = (0..2000).find_map(|_| ending.read(&mut buffer).err());
        assert_eq!(error.map(|error| error.kind()), Some(io::ErrorKind::UnexpectedEof));
    }
}
