//! WebP: the still image or the first frame.

use std::io::{Cursor, ErrorKind};

use image_webp::{DecodingError, WebPDecoder};

use super::File;
use crate::image::picture::Pixels;
use crate::image::{ImageError, Orientation, Picture};

pub(super) fn decode(file: &File) -> Result<Picture, ImageError> {
    let failed = |error: DecodingError| match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => file.truncated(),
        error => file.broken(error),
    };
    // The RIFF header tells the length of all that follows it.
    let length = file.bytes.get(4..8).and_then(<[u8]>::first_chunk);
    if length.is_none_or(|&length| u32::from_le_bytes(length) as usize > file.bytes.len() - 8) {
        return Err(file.truncated());
    }
    let mut decoder = WebPDecoder::new(Cursor::new(file.bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = file.size(width.into(), height.into())?;
    decoder.set_memory_limit(file.bytes.len());
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let mut data = vec![0; width * height * channels];
    decoder.read_image(&mut data).map_err(failed)?;
    let exif = decoder.exif_metadata().unwrap_or_default();
    let pixels = if decoder.has_alpha() { Pixels::Rgba(data) } else { Pixels::Rgb(data) };
    Ok(Picture {
        orientation: exif.map_or(Orientation::Upright, |exif| Orientation::from_exif(&exif)),
        ..Picture::new(width, height, pixels)
    })
}
