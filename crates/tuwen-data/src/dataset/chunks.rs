//! Ranges of a file or an object, as the Parquet reader asks for them.

use std::io::{self, BufReader, Seek, SeekFrom};
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
    type T = BufReader<Box<dyn ReadSeek>>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut reader = BufReader::new(self.place.open()?);
        reader.seek(SeekFrom::Start(start))?;
        Ok(reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes> {
        let range = start..start.saturating_add(length as u64);
        Ok(self.place.read(&[range])?.pop().unwrap_or_default().into())
    }
}
