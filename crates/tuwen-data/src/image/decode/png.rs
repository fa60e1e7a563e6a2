//! PNG.

use std::io::{Cursor, ErrorKind};

use png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Transformations};

use super::{File, bits};
use crate::image::picture::Pixels;
use crate::image::{ImageError, Orientation, Picture};

/// Bytes that a byte can hold: the strongest compression of zlib is 1032 to 1.
const BYTES_PER_BYTE: usize = 1040;

/// Memory for chunks other than pixels, and for a line.
const CHUNK_BYTES: usize = 64 << 20;

pub(super) fn decode(file: &File) -> Result<Picture, ImageError> {
    let failed = |error: DecodingError| match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => file.truncated(),
        error => file.broken(error),
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(file.bytes), Limits { bytes: CHUNK_BYTES });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(failed)?;
    let (width, height) = file.size(header.width.into(), header.height.into())?;
    let stride = header.raw_row_length() - 1;
    file.can_hold(stride.saturating_mul(height), BYTES_PER_BYTE)?;
    let mut reader = decoder.read_info().map_err(failed)?;
    let mut data = vec![0; stride * height];
    reader.next_frame(&mut data).map_err(failed)?;

    let info = reader.info();
    let depth = match info.bit_depth {
        BitDepth::One => 1,
        BitDepth::Two => 2,
        BitDepth::Four => 4,
        BitDepth::Eight => 8,
        BitDepth::Sixteen => 16,
    };
    let transparency = info.trns.as_deref().unwrap_or_default();
    let words = || data.as_chunks::<2>().0;
    let high_bytes = || words().iter().map(|&[high, _]| high).collect();
    let pixels = match (info.color_type, depth) {
        (ColorType::Grayscale, 16) => {
            Pixels::Grey16(words().iter().map(|&word| u16::from_be_bytes(word)).collect())
        }
        (ColorType::Grayscale, _) => {
            let mut samples = bits::unpack(&data, stride, width, depth);
            bits::spread(&mut samples, depth);
            if depth == 1 { Pixels::Bilevel(samples) } else { Pixels::Grey(samples) }
        }
        (ColorType::Indexed, _) => {
            let samples = bits::unpack(&data, stride, width, depth);
            let colors = info.palette.as_deref().unwrap_or_default().as_chunks::<3>().0;
            let mut palette = Box::new([[0, 0, 0, 255]; 256]);
            for (entry, &[red, green, blue]) in palette.iter_mut().zip(colors) {
                *entry = [red, green, blue, 255];
            }
            palette.iter_mut().zip(transparency).for_each(|(entry, &alpha)| entry[3] = alpha);
            Pixels::Palette(samples, palette)
        }
        (ColorType::Rgb, 16) => Pixels::Rgb(high_bytes()),
        (ColorType::Rgba, 16) => Pixels::Rgba(high_bytes()),
        // Pillow has no better mode for it.
        (ColorType::GrayscaleAlpha, 16) => {
            let pixels = data.as_chunks::<4>().0;
            Pixels::Rgba(pixels.iter().flat_map(|&[grey, _, alpha, _]| [grey, grey, grey, alpha]).collect())
        }
        (ColorType::Rgb, _) => Pixels::Rgb(data),
        (ColorType::Rgba, _) => Pixels::Rgba(data),
        (ColorType::GrayscaleAlpha, _) => Pixels::GreyAlpha(data),
    };
    Ok(Picture {
        transparent: transparent_color(info.color_type, depth, transparency),
        orientation: info.exif_metadata.as_deref().map_or(Orientation::Upright, Orientation::from_exif),
        ..Picture::new(width, height, pixels)
    })
}

/// The colour that stands for transparency in an image without alpha, from values of two bytes or, where the decoder
/// has cut them down, of one. Like Pillow, this takes the low byte for that of the decoded colour.
fn transparent_color(color_type: ColorType, depth: usize, transparency: &[u8]) -> Option<[u8; 3]> {
    match (color_type, transparency) {
        (ColorType::Grayscale, &[grey] | &[_, grey]) => {
            Some([if depth == 1 && grey != 0 { 255 } else { grey }; 3])
        }
        (ColorType::Rgb, &[red, green, blue] | &[_, red, _, green, _, blue]) => Some([red, green, blue]),
        _ => None,
    }
}
