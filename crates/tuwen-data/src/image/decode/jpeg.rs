//! JPEG.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::File;
use crate::image::picture::Pixels;
use crate::image::{ImageError, Orientation, Picture};

/// Pixels that a byte can hold: a block of 64 takes at least a bit of each scan, and a flat one no more than two.
const PIXELS_PER_BYTE: usize = 1024;

pub(super) fn decode(file: &File) -> Result<Picture, ImageError> {
    let failed = |error: DecodeErrors| match error {
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => file.truncated(),
        error => file.broken(format_args!("{error:?}")),
    };
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file.bytes), options);
    decoder.decode_headers().map_err(failed)?;
    let Some(info) = decoder.info() else { return Err(file.broken("it has no header")) };
    let (width, height) = file.size(info.width.into(), info.height.into())?;
    file.can_hold(width * height, PIXELS_PER_BYTE)?;
    // The decoder fills up what is missing with grey.
    if !is_complete(file.bytes) {
        return Err(file.truncated());
    }
    let space = decoder.input_colorspace();
    let output = match info.components {
        1 => ColorSpace::Luma,
        3 => ColorSpace::RGB,
        4 if space == Some(ColorSpace::YCCK) => ColorSpace::YCCK,
        4 => ColorSpace::CMYK,
        count => return Err(file.unsupported(format_args!("an image of {count} channels"))),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(output));
    let mut data = decoder.decode().map_err(failed)?;
    let orientation = decoder.exif().map_or(Orientation::Upright, |exif| Orientation::from_exif(exif));
    let channels = output.num_components();
    if data.len() != width * height * channels {
        return Err(file.broken("its size changes"));
    }
    let pixels = match output {
        ColorSpace::Luma => Pixels::Grey(data),
        ColorSpace::RGB => Pixels::Rgb(data),
        _ => {
            if output == ColorSpace::YCCK {
                data.as_chunks_mut::<4>().0.iter_mut().for_each(ycck_to_cmyk);
            }
            // Everyone follows Adobe in storing how much light passes instead of how much ink there is.
            data.iter_mut().for_each(|byte| *byte = 255 - *byte);
            Pixels::Cmyk(data)
        }
    };
    Ok(Picture { orientation, ..Picture::new(width, height, pixels) })
}

/// Luma and chroma to the light that three inks let through, with the fixed-point numbers of the JPEG group's library.
fn ycck_to_cmyk(pixel: &mut [u8; 4]) {
    let fixed = |value: f64| (value * 65536.0 + 0.5) as i32;
    let [luma, blue, red, _] = pixel.map(i32::from);
    let (blue, red) = (blue - 128, red - 128);
    let colors = [
        luma + ((fixed(1.402) * red + 32768) >> 16),
        luma + ((32768 - fixed(0.344_14) * blue - fixed(0.714_14) * red) >> 16),
        luma + ((fixed(1.772) * blue + 32768) >> 16),
    ];
    pixel.iter_mut().zip(colors).for_each(|(byte, color)| *byte = color.clamp(0, 255) as u8);
}

/// Whether the end-of-image marker stands where it belongs: after the last scan.
fn is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // To the next marker: in a scan over its data, where stuffed zeros and restarts are no markers.
        let Some(skipped) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xff))
        else {
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
