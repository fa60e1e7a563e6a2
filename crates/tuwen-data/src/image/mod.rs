//! Images: decoding, resizing as Pillow does, cropping.

mod resize;

pub use resize::{Interpolation, resize, resize_area};

/// An 8-bit RGB image, row-major, three bytes a pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `height * width * 3` bytes.
    pub data: Vec<u8>,
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // named for what they are
pub struct Area {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// Decodes an image file and turns it into RGB; the kind of file is read from its content.
pub fn decode_rgb(bytes: &[u8]) -> Result<RgbImage, image::ImageError> {
    let image = image::load_from_memory(bytes)?.into_rgb8();
    Ok(RgbImage { width: image.width() as usize, height: image.height() as usize, data: image.into_raw() })
}
