//! Reading what should be small, and may be huge or have no end.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// All bytes of a source.
///
/// # Errors
/// A source that cannot be read, or that holds more than `limit` bytes.
pub fn read_limited(source: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

/// The text of a file.
///
/// # Errors
/// A file that cannot be read, holds more than `limit` bytes, or is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let bytes = read_limited(File::open(path)?, limit)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_refused() {
        assert_eq!(read_limited(&b"abc"[..], 3).expect("fits"), b"abc");
        let error = read_limited(io::repeat(0), 3).expect_err("too long");
        assert_eq!(error.to_string(), "more than 3 bytes");
    }

    #[test]
    fn a_text_is_utf_8() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("text");
        std::fs::write(&path, "tèxt").expect("written");
        assert_eq!(read_text(&path, 5).expect("read"), "tèxt");
        assert!(read_text(&path, 4).is_err());
        std::fs::write(&path, b"\xff").expect("written");
        assert_eq!(read_text(&path, 4).expect_err("binary").to_string(), "not a UTF-8 text");
    }
}
