//! Images: decoding, resizing, cropping and normalising, to the bit as the reference programs do with Pillow.
//!
//! [`Picture`] is a decoded file in its own mode, [`RgbImage`] plain pixels, [`Transform`] what a checkpoint asks to be
//! done with a picture.

mod alpha;
mod decode;
mod encode;
mod error;
mod normalizer;
mod orientation;
mod picture;
mod png_file;
mod reduced;
mod resize;
mod transform;

/// Suffixes of the names of image files, in lower case. What a file is, its content tells.
pub const SUFFIXES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

pub use decode::{MAX_BYTES, MAX_PIXELS, decode_rgb, dimensions, read, sniff};
pub use error::{Format, ImageError};
pub use normalizer::Normalizer;
pub use orientation::Orientation;
pub use picture::{Mode, Picture};
pub use resize::{Interpolation, resize, resize_area};
pub(crate) use transform::shortest_edge_to;
pub use transform::{Middle, OPENAI_MEAN, OPENAI_STD, Resize, Size, ToRgb, Transform};

/// Images longer than this times their shorter side are not learnt from: their square would be a blur or a sliver.
pub(crate) const MAX_ASPECT: usize = 100;

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
