//! From the bytes of a file to a [`Picture`]: what kind of file it is, limits, errors.
//!
//! Sizes are checked before anything is allocated for them: against [`MAX_PIXELS`], and against what the length of the
//! file can hold at the strongest compression that its kind knows.

mod bits;
mod bmp;
mod gif;
mod jpeg;
mod png;
mod tiff;
mod webp;

use std::fs;
use std::io::{self, Cursor, Read as _};
use std::path::Path;

use super::error::{Format, ImageError};
use super::{Picture, RgbImage, Transform};
use crate::files::read_limited;
use crate::guard::guarded;

/// The greatest number of pixels of an image: where Pillow begins to warn of decompression bombs.
pub const MAX_PIXELS: u64 = 178_956_970;

/// The greatest length of an image file: room for [`MAX_PIXELS`] without compression.
pub const MAX_BYTES: u64 = 1 << 30;

/// Bytes at the beginning of a file that are enough for [`sniff`].
const HEAD: u64 = 64;

/// Decodes an image file and turns it into RGB as Pillow's `convert("RGB")` does.
///
/// # Errors
/// See [`Picture::decode`].
pub fn decode_rgb(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    Picture::decode(bytes).map(Picture::into_rgb)
}

/// Width and height of an image file in pixels, by its header.
///
/// # Errors
/// See [`Picture::decode`]; what is broken behind the header is not seen.
pub fn dimensions(bytes: &[u8]) -> Result<(u64, u64), ImageError> {
    // Where no pixel is allowed, every decoder stops once it knows how many there are.
    match Picture::decode_within(bytes, 0) {
        Err(ImageError::TooLarge { width, height, .. }) => Ok((width, height)),
        Err(error) => Err(error),
        Ok(picture) => Ok((picture.width() as u64, picture.height() as u64)),
    }
}

impl Picture {
    /// Decodes a JPEG, PNG, WebP, GIF, BMP or TIFF file; of several frames the first. The content says what it is.
    ///
    /// # Errors
    /// Where the bytes are no such image, are cut off or broken, use a feature that is not supported, or hold more than
    /// [`MAX_PIXELS`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ImageError> {
        Self::decode_within(bytes, MAX_PIXELS)
    }

    /// [`Picture::decode`] with another limit on the number of pixels.
    ///
    /// # Errors
    /// See [`Picture::decode`].
    pub fn decode_within(bytes: &[u8], max_pixels: u64) -> Result<Self, ImageError> {
        File { bytes, format: sniff(bytes)?, max_pixels, transform: None }.decode()
    }

    /// [`Picture::decode`] for a transform, as fast as can be: large JPEG files are decoded at a half, a quarter or an
    /// eighth of their size where what [`Transform::apply`] makes of them then differs by less than a grey level in the
    /// mean.
    ///
    /// # Errors
    /// See [`Picture::decode`].
    pub fn decode_for(bytes: &[u8], transform: &Transform) -> Result<Self, ImageError> {
        let transform = Some(transform);
        File { bytes, format: sniff(bytes)?, max_pixels: MAX_PIXELS, transform }.decode()
    }

    /// Reads and decodes an image file; its name does not matter.
    ///
    /// # Errors
    /// Where the file cannot be read or has more than [`MAX_BYTES`], and see [`Picture::decode`]; the error names the
    /// file.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let decoded = read(path).map_err(ImageError::from).and_then(|bytes| Self::decode(&bytes));
        decoded.map_err(|reason| ImageError::File { path: path.to_owned(), reason: Box::new(reason) })
    }
}

/// The bytes of an image file. Of a file that is none only the first: it may be huge, or have no end.
///
/// # Errors
/// A file that cannot be read, or that has more than [`MAX_BYTES`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head)?;
    if sniff(&head).is_err() {
        return Ok(head);
    }
    read_limited(Cursor::new(head).chain(file), MAX_BYTES)
}

/// What a decoder works on.
struct File<'a> {
    bytes: &'a [u8],
    format: Format,
    max_pixels: u64,
    /// What the picture is decoded for, if its pixels need not be exact.
    transform: Option<&'a Transform>,
}

impl File<'_> {
    fn decode(&self) -> Result<Picture, ImageError> {
        // The decoders are other people's, and they are given whatever the web holds.
        guarded(|| match self.format {
            Format::Jpeg => jpeg::decode(self),
            Format::Png => png::decode(self),
            Format::WebP => webp::decode(self),
            Format::Gif => gif::decode(self),
            Format::Bmp => bmp::decode(self),
            Format::Tiff => tiff::decode(self),
        })
        .unwrap_or_else(|_| Err(self.broken("the decoder panicked: this is a bug")))
    }

    /// The size as numbers for this machine, if it is allowed.
    fn size(&self, width: u64, height: u64) -> Result<(usize, usize), ImageError> {
        if width == 0 || height == 0 {
            return Err(self.broken(format_args!("its size is {width} x {height}")));
        }
        let too_large =
            || ImageError::TooLarge { format: self.format, width, height, limit: self.max_pixels };
        if width.checked_mul(height).is_none_or(|pixels| pixels > self.max_pixels) {
            return Err(too_large());
        }
        Ok((
            usize::try_from(width).map_err(|_| too_large())?,
            usize::try_from(height).map_err(|_| too_large())?,
        ))
    }

    /// Fails if the file is too short to hold `needed` units where a byte can hold at most `per_byte`.
    fn can_hold(&self, needed: usize, per_byte: usize) -> Result<(), ImageError> {
        if needed / per_byte > self.bytes.len() { Err(self.truncated()) } else { Ok(()) }
    }

    fn broken(&self, problem: impl std::fmt::Display) -> ImageError {
        ImageError::broken(self.format, problem)
    }

    fn unsupported(&self, feature: impl std::fmt::Display) -> ImageError {
        ImageError::unsupported(self.format, feature)
    }

    fn truncated(&self) -> ImageError {
        ImageError::Truncated { format: self.format, length: self.bytes.len() }
    }
}

/// The kind of an image file by its first bytes, of which 64 are enough.
///
/// # Errors
/// What it seems to be if it is no image.
pub fn sniff(bytes: &[u8]) -> Result<Format, ImageError> {
    Ok(match bytes {
        [] => return Err(ImageError::Empty),
        [0xff, 0xd8, 0xff, ..] => Format::Jpeg,
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Format::Png,
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Format::Gif,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Format::WebP,
        [b'I', b'I', b'*' | b'+', 0, ..] | [b'M', b'M', 0, b'*' | b'+', ..] => Format::Tiff,
        [b'B', b'M', ..] if bmp::has_known_header(bytes) => Format::Bmp,
        _ => return Err(ImageError::UnknownFormat { content: describe(bytes) }),
    })
}

/// What bytes that are no image seem to be.
fn describe(bytes: &[u8]) -> String {
    let known = match bytes {
        [b'%', b'P', b'D', b'F', ..] => "a PDF file",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [0x1f, 0x8b, ..] => "gzip data",
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => "an AVIF image",
        [_, _, _, _, b'f', b't', b'y', b'p', b'h' | b'm', ..] => "a HEIF image or an MPEG-4 film",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "an MPEG-4 film",
        [0xff, 0x0a, ..] | [0, 0, 0, 0x0c, b'J', b'X', b'L', b' ', ..] => "a JPEG XL image",
        [0, 0, 0, 0x0c, b'j', b'P', ..] => "a JPEG 2000 image",
        [0, 0, 1, 0, ..] => "a Windows icon",
        _ if bytes.starts_with(b"version https://git-lfs") => "a pointer of Git LFS, not the file itself",
        _ if bytes.iter().all(|&byte| byte == 0) => "nothing but zeros",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    let start = &bytes[..bytes.len().min(40)];
    let text: String = String::from_utf8_lossy(start).chars().take(32).collect();
    let printable = |character: char| !character.is_control() || character.is_whitespace();
    if text.chars().all(|character| printable(character) && character != '\u{fffd}') {
        return format!("text that begins with {:?}", text.trim());
    }
    let hex: Vec<String> = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("it begins with the bytes {}", hex.join(" "))
}
