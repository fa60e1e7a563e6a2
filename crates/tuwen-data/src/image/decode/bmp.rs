//! BMP: the headers of Windows and OS/2, palettes, bit fields and run lengths.

use super::{File, bits};
use crate::image::picture::Pixels;
use crate::image::{ImageError, Picture};

/// Bytes before the header that tells the size.
const FILE_HEADER: usize = 14;

/// Whether what follows the two letters at the start is a header of this format: two letters alone are little.
pub(super) fn has_known_header(bytes: &[u8]) -> bool {
    matches!(bytes.get(FILE_HEADER..), Some([12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0, ..]))
}

/// How pixels are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Raw,
    RunLengths,
    BitFields,
}

/// What the header says.
struct Header {
    width: usize,
    height: usize,
    top_down: bool,
    bits: usize,
    packing: Packing,
    colors: usize,
    /// Bytes of a palette entry.
    entry: usize,
    /// Where the header ends.
    end: usize,
    /// Where the pixels begin, 0 if they follow what comes before.
    offset: usize,
}

pub(super) fn decode(file: &File) -> Result<Picture, ImageError> {
    let header = Header::read(file)?;
    match header.bits {
        1 | 4 | 8 => header.decode_palette(file),
        16 | 24 | 32 => header.decode_colors(file),
        bits => Err(file.unsupported(format_args!("a depth of {bits} bits"))),
    }
}

impl File<'_> {
    fn u16(&self, at: usize) -> Result<u16, ImageError> {
        let bytes = self.bytes.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map(|&bytes| u16::from_le_bytes(bytes)).ok_or_else(|| self.truncated())
    }

    fn u32(&self, at: usize) -> Result<u32, ImageError> {
        let bytes = self.bytes.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map(|&bytes| u32::from_le_bytes(bytes)).ok_or_else(|| self.truncated())
    }
}

impl Header {
    fn read(file: &File) -> Result<Self, ImageError> {
        let offset = file.u32(10)? as usize;
        let length = file.u32(FILE_HEADER)? as usize;
        let end = FILE_HEADER + length;
        if file.bytes.len() < end {
            return Err(file.truncated());
        }
        let at = FILE_HEADER + 4;
        if length == 12 {
            let (width, height) = file.size(file.u16(at)?.into(), file.u16(at + 2)?.into())?;
            let bits = usize::from(file.u16(at + 6)?);
            let colors = 1 << bits.min(8);
            let packing = Packing::Raw;
            return Ok(Self { width, height, top_down: false, bits, packing, colors, entry: 3, end, offset });
        }
        let height = file.u32(at + 4)?.cast_signed();
        let (width, rows) = file.size(file.u32(at)?.into(), height.unsigned_abs().into())?;
        let bits = usize::from(file.u16(at + 10)?);
        let packing = match (file.u32(at + 12)?, bits) {
            (0, _) => Packing::Raw,
            (1, 8) | (2, 4) => Packing::RunLengths,
            (3, 16 | 32) => Packing::BitFields,
            (number, _) => {
                return Err(file.unsupported(format_args!("compression {number} at {bits} bits")));
            }
        };
        let colors = match file.u32(at + 28)? as usize {
            0 => 1 << bits.min(8),
            colors => colors,
        };
        Ok(Self { width, height: rows, top_down: height < 0, bits, packing, colors, entry: 4, end, offset })
    }

    /// Bytes of a line, which are a multiple of four.
    fn stride(&self) -> usize {
        (self.width * self.bits).div_ceil(32) * 4
    }

    /// The lines of pixels, in the order of the file.
    fn lines<'a>(&self, file: &File<'a>, start: usize) -> Result<&'a [u8], ImageError> {
        let length = self.stride().saturating_mul(self.height);
        let lines = file.bytes.get(start..).and_then(|rest| rest.get(..length));
        lines.ok_or_else(|| file.truncated())
    }

    /// Lines of decoded bytes from top to bottom.
    fn upright(&self, data: Vec<u8>, channels: usize) -> Vec<u8> {
        if self.top_down {
            return data;
        }
        data.chunks_exact(self.width * channels).rev().flatten().copied().collect()
    }

    fn decode_palette(&self, file: &File) -> Result<Picture, ImageError> {
        if self.colors > 1 << 16 {
            return Err(file.broken(format_args!("it has {} colours", self.colors)));
        }
        let colors_end = self.end + self.entry * self.colors;
        let Some(colors) = file.bytes.get(self.end..colors_end) else { return Err(file.truncated()) };
        // Some writers give the end of the header as the start of the pixels.
        let start = if self.offset == 0 || self.offset == self.end { colors_end } else { self.offset };
        let mut palette = Box::new([[0, 0, 0, 255]; 256]);
        for (entry, color) in palette.iter_mut().zip(colors.chunks_exact(self.entry)) {
            *entry = [color[2], color[1], color[0], 255];
        }
        let numbers = if self.packing == Packing::RunLengths {
            self.run_lengths(file, start)?
        } else {
            bits::unpack(self.lines(file, start)?, self.stride(), self.width, self.bits)
        };
        let mut numbers = self.upright(numbers, 1);
        let colors = &palette[..self.colors.min(256)];
        let is_grey =
            |value: usize, color: &[u8; 4]| color[..3].iter().all(|&byte| usize::from(byte) == value);
        let pixels =
            if self.bits == 1 && colors.len() == 2 && is_grey(0, &colors[0]) && is_grey(255, &colors[1]) {
                bits::spread(&mut numbers, 1);
                Pixels::Bilevel(numbers)
            } else if colors.len() > 2
                && colors.iter().enumerate().all(|(value, color)| is_grey(value, color))
            {
                Pixels::Grey(numbers)
            } else {
                Pixels::Palette(numbers, palette)
            };
        Ok(Picture::new(self.width, self.height, pixels))
    }

    /// Runs of one colour (of two in turn at 4 bits), literal stretches and jumps.
    fn run_lengths(&self, file: &File, start: usize) -> Result<Vec<u8>, ImageError> {
        let mut data = vec![0; self.width * self.height];
        let mut rest = file.bytes.get(start..).ok_or_else(|| file.truncated())?;
        let (mut x, mut y) = (0, 0);
        while y < self.height {
            let Some((&[count, value], after)) = rest.split_first_chunk() else {
                return Err(file.truncated());
            };
            rest = after;
            match (count, value) {
                (0, 0) => (x, y) = (0, y + 1),
                (0, 1) => break,
                (0, 2) => {
                    let Some((&[right, up], after)) = rest.split_first_chunk() else {
                        return Err(file.truncated());
                    };
                    rest = after;
                    (x, y) = (x + usize::from(right), y + usize::from(up));
                }
                _ => {
                    let literal = count == 0;
                    let count = usize::from(if literal { value } else { count });
                    let packed = (count * self.bits).div_ceil(8);
                    if literal && rest.len() < packed {
                        return Err(file.truncated());
                    }
                    let sample = |place: usize| {
                        let byte = if literal { rest[place * self.bits / 8] } else { value };
                        if self.bits == 8 { byte } else { byte >> (4 * (1 - place % 2)) & 15 }
                    };
                    let line = &mut data[y * self.width..(y + 1) * self.width];
                    let places = line.iter_mut().skip(x).take(count).enumerate();
                    places.for_each(|(place, pixel)| *pixel = sample(place));
                    x += count;
                    if literal {
                        rest = &rest[packed.next_multiple_of(2).min(rest.len())..];
                    }
                }
            }
        }
        Ok(data)
    }

    fn decode_colors(&self, file: &File) -> Result<Picture, ImageError> {
        let mut start = self.end;
        let mut masks: [u32; 4] = match self.bits {
            16 => [0x7c00, 0x3e0, 0x1f, 0],
            _ => [0xff_0000, 0xff00, 0xff, 0],
        };
        if self.packing == Packing::BitFields {
            // Behind the shortest header, otherwise part of it.
            let at = FILE_HEADER + 40;
            let has_alpha = self.bits == 32 && self.end >= at + 16;
            for (number, mask) in masks.iter_mut().enumerate().take(if has_alpha { 4 } else { 3 }) {
                *mask = file.u32(at + 4 * number)?;
            }
            start = start.max(at + 12);
            if masks == [0; 4] && self.bits == 32 {
                masks = [0xff_0000, 0xff00, 0xff, 0xff00_0000];
            }
        }
        if self.offset != 0 {
            start = self.offset;
        }
        let lines = self.lines(file, start)?.chunks_exact(self.stride());
        if self.bits == 24 {
            let line = |line: &[u8]| line[..self.width * 3].as_chunks::<3>().0.to_vec();
            let data = lines.flat_map(line).flat_map(|[blue, green, red]| [red, green, blue]).collect();
            return Ok(Picture::new(self.width, self.height, Pixels::Rgb(self.upright(data, 3))));
        }
        let channels = if masks[3] == 0 { 3 } else { 4 };
        let mut fields = Vec::with_capacity(channels);
        for &mask in &masks[..channels] {
            fields.push(
                Field::new(mask).ok_or_else(|| file.unsupported(format_args!("the bit field {mask:#x}")))?,
            );
        }
        let mut data = Vec::with_capacity(self.width * self.height * channels);
        for line in lines {
            for pixel in line.chunks_exact(self.bits / 8).take(self.width) {
                let value = pixel.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
                data.extend(fields.iter().map(|field| field.get(value)));
            }
        }
        let data = self.upright(data, channels);
        let pixels = if channels == 4 { Pixels::Rgba(data) } else { Pixels::Rgb(data) };
        Ok(Picture::new(self.width, self.height, pixels))
    }
}

/// Some bits of a pixel that are a channel.
struct Field {
    shift: u32,
    most: u32,
}

impl Field {
    /// None unless the mask is a single run of at most 8 bits.
    fn new(mask: u32) -> Option<Self> {
        let shift = mask.trailing_zeros();
        let most = mask.checked_shr(shift)?;
        (most <= 255 && (most + 1).is_power_of_two()).then_some(Self { shift, most })
    }

    /// The channel, spread over 0 to 255.
    fn get(&self, pixel: u32) -> u8 {
        ((pixel >> self.shift & self.most) * 255 / self.most) as u8
    }
}
