//! GIF: the first frame.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::File;
use crate::image::picture::Pixels;
use crate::image::{ImageError, Picture};

/// Pixels that a byte can hold: a code of 12 bits stands for less than 4096.
const PIXELS_PER_BYTE: usize = 2731;

pub(super) fn decode(file: &File) -> Result<Picture, ImageError> {
    let failed = |error: DecodingError| match error {
        DecodingError::UnexpectedEof => file.truncated(),
        error => file.broken(error),
    };
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.allow_unknown_blocks(true);
    options.set_memory_limit(
        NonZeroU64::new(file.max_pixels).map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes),
    );
    let mut decoder = options.read_info(file.bytes).map_err(failed)?;
    let screen = (u64::from(decoder.width()), u64::from(decoder.height()));
    let Some(frame) = decoder.next_frame_info().map_err(failed)? else {
        return Err(file.broken("it has no frame"));
    };
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let (transparent, own_colors) = (frame.transparent, frame.palette.clone());
    // Like Pillow, grow the screen to what the frame needs.
    let (width, height) =
        file.size(screen.0.max((left + frame_width) as u64), screen.1.max((top + frame_height) as u64))?;
    file.can_hold(frame_width * frame_height, PIXELS_PER_BYTE)?;
    let mut data = vec![0; decoder.buffer_size()];
    if !data.is_empty() {
        decoder.read_into_buffer(&mut data).map_err(failed)?;
    }

    let mut canvas = vec![transparent.unwrap_or(0); width * height];
    if frame_width > 0 {
        for (line, own) in canvas.chunks_exact_mut(width).skip(top).zip(data.chunks_exact(frame_width)) {
            line[left..left + frame_width].copy_from_slice(own);
        }
    }
    let colors = own_colors.or_else(|| decoder.global_palette().map(<[u8]>::to_vec)).unwrap_or_default();
    let colors = colors.as_chunks::<3>().0;
    // A palette that says that each number is its own grey is none.
    if colors
        .iter()
        .enumerate()
        .all(|(number, color)| color.iter().all(|&value| usize::from(value) == number))
    {
        let transparent = transparent.map(|grey| [grey; 3]);
        return Ok(Picture { transparent, ..Picture::new(width, height, Pixels::Grey(canvas)) });
    }
    let mut palette = Box::new([[0, 0, 0, 255]; 256]);
    for (entry, &[red, green, blue]) in palette.iter_mut().zip(colors) {
        *entry = [red, green, blue, 255];
    }
    if let Some(number) = transparent {
        palette[usize::from(number)][3] = 0;
    }
    Ok(Picture::new(width, height, Pixels::Palette(canvas, palette)))
}
