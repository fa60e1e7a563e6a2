//! JPEG, by the decoder that Pillow uses too (libjpeg, here in Mozilla's version): others round differently, by up to
//! five grey levels where the chroma is subsampled.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use memchr::memchr;
use mozjpeg::{ColorSpace, Decompress, Marker};

use super::File;
use crate::image::picture::Pixels;
use crate::image::reduced::Reduced;
use crate::image::{ImageError, Orientation, Picture};

/// Pixels that a byte can hold: a block of 64 takes at least a bit of each scan, and a flat one no more than two.
const PIXELS_PER_BYTE: usize = 1024;

/// Where EXIF data are, and how they begin there.
const EXIF_MARKER: Marker = Marker::APP(1);
const EXIF_HEADER: &[u8] = b"Exif\0\0";

pub(super) fn decode(file: &File) -> Result<Picture, ImageError> {
    // The decoder leaves by unwinding where it cannot go on.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode_or_unwind(file)));
    decoded.unwrap_or_else(|_| Err(failure(file, "its data make no image")))
}

/// What to say of a file that the decoder gives up on.
fn failure(file: &File, reason: impl std::fmt::Display) -> ImageError {
    if is_complete(file.bytes) { file.broken(reason) } else { file.truncated() }
}

fn decode_or_unwind(file: &File) -> Result<Picture, ImageError> {
    let failed = |error: io::Error| failure(file, error);
    if let Some((width, height)) = frame_size(file.bytes) {
        file.size(width, height)?;
    }
    let mut decoder = Decompress::with_markers(&[EXIF_MARKER]).from_mem(file.bytes).map_err(failed)?;
    let (width, height) = file.size(decoder.width() as u64, decoder.height() as u64)?;
    file.can_hold(width * height, PIXELS_PER_BYTE)?;
    // The decoder fills up what is missing with grey.
    if !is_complete(file.bytes) {
        return Err(file.truncated());
    }
    let orientation = decoder
        .markers()
        .find_map(|marker| marker.data.strip_prefix(EXIF_HEADER).map(Orientation::from_exif))
        .unwrap_or(Orientation::Upright);
    let output = match decoder.color_space() {
        ColorSpace::JCS_GRAYSCALE => ColorSpace::JCS_GRAYSCALE,
        ColorSpace::JCS_RGB | ColorSpace::JCS_YCbCr => ColorSpace::JCS_RGB,
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => ColorSpace::JCS_CMYK,
        _ => return Err(file.unsupported("an image of an unknown number of channels")),
    };
    let by = file.transform.map_or(1, |transform| transform.reduction((width, height)));
    if let Ok(by @ 2..) = u8::try_from(by) {
        decoder.scale(8 / by);
    }
    let mut decoder = decoder.to_colorspace(output).map_err(failed)?;
    let mut data = match output {
        ColorSpace::JCS_GRAYSCALE => decoder.read_scanlines::<u8>().map_err(failed)?,
        ColorSpace::JCS_RGB => decoder.read_scanlines::<[u8; 3]>().map_err(failed)?.into_flattened(),
        _ => decoder.read_scanlines::<[u8; 4]>().map_err(failed)?.into_flattened(),
    };
    decoder.finish().map_err(failed)?;
    let channels = match output {
        ColorSpace::JCS_GRAYSCALE => 1,
        ColorSpace::JCS_RGB => 3,
        _ => 4,
    };
    let size = (width.div_ceil(by), height.div_ceil(by));
    if data.len() != size.0 * size.1 * channels {
        return Err(file.broken("its size changes"));
    }
    let pixels = match output {
        ColorSpace::JCS_GRAYSCALE => Pixels::Grey(data),
        ColorSpace::JCS_RGB => Pixels::Rgb(data),
        _ => {
            // Everyone follows Adobe in storing how much light passes instead of how much ink there is.
            data.iter_mut().for_each(|byte| *byte = 255 - *byte);
            Pixels::Cmyk(data)
        }
    };
    let reduced = (by > 1).then_some(Reduced { full: (width, height), by });
    Ok(Picture { orientation, reduced, ..Picture::new(size.0, size.1, pixels) })
}

/// Width and height by the frame header; the decoder refuses large ones without saying them.
fn frame_size(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut at = 2;
    loop {
        let &[0xff, marker, high, low] = bytes.get(at..at + 4)? else { return None };
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            let &[a, b, c, d] = bytes.get(at + 5..at + 9)? else { return None };
            return Some((u16::from_be_bytes([c, d]).into(), u16::from_be_bytes([a, b]).into()));
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
}

/// Whether the end-of-image marker stands where it belongs: after the last scan.
fn is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // To the next marker: in a scan over its data, where stuffed zeros and restarts are no markers.
        let Some(skipped) = bytes.get(at..).and_then(|rest| memchr(0xff, rest)) else {
            return false;
        };
        at += skipped + 1;
        match bytes.get(at) {
            None => return false,
            Some(0xd9) => return true,
            // Stuffing, fill bytes, restarts and others without a length.
            Some(0x00 | 0x01 | 0xff | 0xd0..=0xd8) => {}
            Some(_) => match bytes.get(at + 1..at + 3) {
                Some(&[high, low]) => at += 1 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_complete;

    #[test]
    fn the_end_is_found_after_the_scans_only() {
        // A thumbnail with an end of its own in a segment, stuffing, a restart and a second scan.
        let file = b"\xff\xd8\xff\xe1\0\x08\xff\xd9ab12\xff\xda\0\x021\xff\x002\xff\xd03\xff\xff\xda\0\x024\xff\xd9after";
        let end = file.len() - b"after".len();
        assert!(is_complete(file) && is_complete(&file[..end]));
        for cut in 0..end {
            assert!(!is_complete(&file[..cut]), "{cut}");
        }
    }
}
