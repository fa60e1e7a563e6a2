//! TIFF: the first image.

use std::borrow::Cow;
use std::io::{Cursor, ErrorKind};

use tiff::decoder::{BufferLayoutPreference, Decoder, DecodingResult, Limits};
use tiff::tags::{SampleFormat, Tag};
use tiff::{ColorType, TiffError};

use super::{File, bits};
use crate::image::picture::Pixels;
use crate::image::{ImageError, Orientation, Picture, alpha};

/// Memory for a part of an image before it is unpacked, and for the values of a tag.
const PART_BYTES: usize = 256 << 20;

/// `PhotometricInterpretation` of palette images and of grey ones.
const PALETTE: u16 = 3;
const BLACK_IS_ZERO: u16 = 1;

pub(super) fn decode(file: &File) -> Result<Picture, ImageError> {
    let failed = |error: TiffError| match error {
        TiffError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => file.truncated(),
        TiffError::UnsupportedError(feature) => file.unsupported(feature),
        error => file.broken(error),
    };
    // The decoder does not know palettes, but it unpacks their numbers if it takes them for grey.
    let directory = Directory::read(file.bytes);
    let palette = directory.as_ref().filter(|directory| directory.get(262) == Some(PALETTE));
    let mut bytes = Cow::Borrowed(file.bytes);
    if let Some(directory) = palette
        && let Some(place) = directory.place(262)
    {
        bytes.to_mut()[place..place + 2].copy_from_slice(&directory.word_bytes(BLACK_IS_ZERO));
    }
    let mut limits = Limits::default();
    limits.decoding_buffer_size = usize::try_from(file.max_pixels.saturating_mul(8)).unwrap_or(usize::MAX);
    limits.intermediate_buffer_size = PART_BYTES;
    let mut decoder = Decoder::new(Cursor::new(bytes.as_ref())).map_err(failed)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(failed)?;
    let (width, height) = file.size(width.into(), height.into())?;
    let color_type = decoder.colortype().map_err(failed)?;
    let colors =
        if palette.is_some() { decoder.get_tag_u16_vec(Tag::ColorMap).map_err(failed)? } else { Vec::new() };
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).map_err(failed)?.unwrap_or_default();

    let mut result = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut result).map_err(failed)?;
    if layout.sample_format != SampleFormat::Uint {
        return Err(file.unsupported("numbers other than unsigned integers"));
    }
    let channels = usize::from(color_type.num_samples());
    let depth = usize::from(color_type.bit_depth());
    let size = (width, height);
    let pixels = match (result, color_type) {
        (DecodingResult::U16(data), ColorType::Gray(16)) => Pixels::Grey16(data),
        (DecodingResult::U16(data), _) if depth == 16 => {
            let data = data.into_iter().map(|value| (value >> 8) as u8).collect();
            from_bytes(file, interleaved(file, data, &layout, size, channels)?, color_type, &extra)?
        }
        (DecodingResult::U8(data), ColorType::Gray(1 | 2 | 4 | 8)) => {
            let stride = (width * depth).div_ceil(8);
            if data.len() != stride * height {
                return Err(file.broken("the number of bytes is not that of the pixels"));
            }
            let mut samples = bits::unpack(&data, stride, width, depth);
            if palette.is_some() {
                Pixels::Palette(samples, color_map(&colors))
            } else {
                bits::spread(&mut samples, depth);
                if depth == 1 { Pixels::Bilevel(samples) } else { Pixels::Grey(samples) }
            }
        }
        (DecodingResult::U8(data), _) if depth == 8 => {
            from_bytes(file, interleaved(file, data, &layout, size, channels)?, color_type, &extra)?
        }
        _ => return Err(file.unsupported(format_args!("pixels of the kind {color_type:?}"))),
    };
    let orientation = directory.and_then(|directory| directory.get(274));
    Ok(Picture {
        orientation: orientation.map_or(Orientation::Upright, Orientation::from_tag),
        ..Picture::new(width, height, pixels)
    })
}

/// The first directory of tags, as far as it is needed here.
struct Directory<'a> {
    bytes: &'a [u8],
    little: bool,
    entries: std::ops::Range<usize>,
}

impl<'a> Directory<'a> {
    /// None for files that are cut off or have 64-bit offsets.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let little = bytes.starts_with(b"II*\0");
        if !little && !bytes.starts_with(b"MM\0*") {
            return None;
        }
        let mut directory = Self { bytes, little, entries: 0..0 };
        let start = *bytes.get(4..)?.first_chunk()?;
        let start = if little { u32::from_le_bytes(start) } else { u32::from_be_bytes(start) } as usize;
        let count = usize::from(directory.word(start)?);
        directory.entries = start.checked_add(2)?..start.checked_add(2 + 12 * count)?;
        Some(directory)
    }

    fn word(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn word_bytes(&self, word: u16) -> [u8; 2] {
        if self.little { word.to_le_bytes() } else { word.to_be_bytes() }
    }

    /// Where the value of a tag is that is a single word.
    fn place(&self, tag: u16) -> Option<usize> {
        let entry = self.entries.clone().step_by(12).find(|&entry| self.word(entry) == Some(tag))?;
        (self.word(entry + 2)? == 3 && self.word(entry + 8).is_some()).then_some(entry + 8)
    }

    fn get(&self, tag: u16) -> Option<u16> {
        self.word(self.place(tag)?)
    }
}

/// Colours of 16 bits, all reds first, then all greens, then all blues.
fn color_map(colors: &[u16]) -> Box<[[u8; 4]; 256]> {
    let mut palette = Box::new([[0, 0, 0, 255]; 256]);
    let count = colors.len() / 3;
    for (number, entry) in palette.iter_mut().enumerate().take(count) {
        for (channel, value) in entry.iter_mut().enumerate().take(3) {
            *value = (colors[channel * count + number] >> 8) as u8;
        }
    }
    palette
}

/// Samples pixel by pixel, also where the file has them channel by channel.
fn interleaved(
    file: &File,
    data: Vec<u8>,
    layout: &BufferLayoutPreference,
    (width, height): (usize, usize),
    channels: usize,
) -> Result<Vec<u8>, ImageError> {
    let plane = width * height;
    if data.len() != plane * channels {
        return Err(file.broken("the number of bytes is not that of the pixels"));
    }
    if layout.planes <= 1 {
        return Ok(data);
    }
    let mut pixels = vec![0; data.len()];
    for (channel, samples) in data.chunks_exact(plane).enumerate() {
        let places = pixels.iter_mut().skip(channel).step_by(channels);
        places.zip(samples).for_each(|(place, &sample)| *place = sample);
    }
    Ok(pixels)
}

/// Bytes of several channels, with what the `ExtraSamples` mean: 0 nothing, 1 alpha that the colours are multiplied
/// with, 2 alpha.
fn from_bytes(
    file: &File,
    mut data: Vec<u8>,
    color_type: ColorType,
    extra: &[u16],
) -> Result<Pixels, ImageError> {
    let extra = extra.first().copied();
    Ok(match color_type {
        ColorType::RGB(_) => Pixels::Rgb(data),
        ColorType::RGBA(_) => {
            if extra == Some(1) {
                alpha::unpremultiply::<4>(&mut data);
            }
            Pixels::Rgba(data)
        }
        ColorType::GrayA(_) | ColorType::Multiband { num_samples: 2, .. } => match extra {
            Some(1 | 2) => {
                if extra == Some(1) {
                    alpha::unpremultiply::<2>(&mut data);
                }
                Pixels::GreyAlpha(data)
            }
            _ => Pixels::Grey(data.into_iter().step_by(2).collect()),
        },
        ColorType::CMYK(_) => Pixels::Cmyk(data),
        other => return Err(file.unsupported(format_args!("pixels of the kind {other:?}"))),
    })
}
