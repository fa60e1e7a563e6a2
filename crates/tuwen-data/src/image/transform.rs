//! What a checkpoint asks to be done with a picture before the network sees it, as plain data.
//!
//! Two families of programs do nearly the same: openai/CLIP and open_clip through torchvision, transformers through its
//! image processors. They differ in when they convert to RGB, in what becomes of transparency, and in which of two
//! middle pixels they take.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::reduced::Reduced;
use super::{Area, Interpolation, Mode, Normalizer, Picture, RgbImage};

/// Mean of red, green and blue over the images that OpenAI's CLIP was trained on, in parts of 255.
pub const OPENAI_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];

/// Standard deviation of red, green and blue over the same images.
#[allow(clippy::excessive_precision)] // the digits of the source
pub const OPENAI_STD: [f32; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// A preprocessing: conversion to RGB, resizing, cropping, rescaling, normalising.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transform {
    /// When and how the picture becomes RGB.
    pub to_rgb: ToRgb,
    /// How the picture is resized, if it is.
    pub resize: Option<Resize>,
    /// How pixels are made up in resizing.
    pub interpolation: Interpolation,
    /// The middle that is cut out after resizing, if one is; where the picture is smaller it is padded.
    pub center_crop: Option<Size>,
    /// Which pixels are the middle.
    pub middle: Middle,
    /// The value of every channel in padding.
    pub fill: u8,
    /// Whether bytes are multiplied by `rescale_factor`.
    pub do_rescale: bool,
    /// Usually 1/255.
    pub rescale_factor: f64,
    /// Whether `mean` is subtracted and the rest divided by `std`.
    pub do_normalize: bool,
    /// For red, green and blue, after rescaling.
    pub mean: [f32; 3],
    /// For red, green and blue, after rescaling.
    pub std: [f32; 3],
}

/// When and how a picture becomes RGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToRgb {
    /// After resizing and cropping in its own mode; alpha is dropped (openai/CLIP, open_clip).
    Last,
    /// First; alpha is dropped (Salesforce's programs).
    First,
    /// First; transparency is laid on white (transformers).
    FirstOnWhite,
}

/// How a picture is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The shorter side to this length; the longer one keeps the proportion, rounded down.
    ShortestEdge(usize),
    /// To this size, whatever the proportion.
    Squash(Size),
    /// As large as fits into this size in its proportion, rounded to the nearest; what is left is for the padding.
    LongestEdge(Size),
}

/// Height and width in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // named for what they are
pub struct Size {
    pub height: usize,
    pub width: usize,
}

/// Which pixels are the middle where the excess is odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Middle {
    /// Cropping starts at half the excess rounded to the nearest even number, padding at half of what lacks rounded
    /// down (torchvision).
    HalfToEven,
    /// Cropping starts at half the excess rounded down, padding at half of what lacks rounded up (transformers).
    Floor,
}

impl Size {
    /// As high as wide.
    pub fn square(side: usize) -> Self {
        Self { height: side, width: side }
    }
}

impl Transform {
    /// The transform of openai/CLIP for networks that take images of `size` by `size` pixels.
    pub fn openai(size: usize) -> Self {
        Self {
            to_rgb: ToRgb::Last,
            resize: Some(Resize::ShortestEdge(size)),
            interpolation: Interpolation::Bicubic,
            center_crop: Some(Size::square(size)),
            middle: Middle::HalfToEven,
            fill: 0,
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            mean: OPENAI_MEAN,
            std: OPENAI_STD,
        }
    }

    /// [`Transform::openai`] as the CLIP processor of transformers does it.
    pub fn hugging_face(size: usize) -> Self {
        Self { to_rgb: ToRgb::FirstOnWhite, middle: Middle::Floor, ..Self::openai(size) }
    }

    /// The size that all images leave with; none if it depends on the picture.
    pub fn output_size(&self) -> Option<Size> {
        match (self.center_crop, self.resize) {
            (Some(size), _) | (None, Some(Resize::Squash(size))) => Some(size),
            _ => None,
        }
    }

    /// Resizes, crops and converts to RGB: the bytes that [`Transform::pixel_values`] turns into numbers.
    ///
    /// Sizes of 0 in the transform count as 1.
    pub fn apply(&self, picture: &Picture) -> RgbImage {
        match self.to_rgb {
            ToRgb::Last => self.resize_and_crop(picture).into_rgb(),
            ToRgb::First => self.resize_and_crop(&rgb(picture, Picture::to_rgb)).into_rgb(),
            ToRgb::FirstOnWhite => self.resize_and_crop(&rgb(picture, Picture::to_rgb_on_white)).into_rgb(),
        }
    }

    /// By how much a picture of this size may be made smaller in decoding, which the resizing that follows hides.
    pub(super) fn reduction(&self, size: (usize, usize)) -> usize {
        match self.interpolation {
            Interpolation::Nearest => 1,
            _ => Reduced::by_for(size, self.resized(size.0, size.1)),
        }
    }

    /// Normalised numbers of an image: all of red row by row, all of green, all of blue.
    pub fn pixel_values(&self, image: &RgbImage) -> Vec<f32> {
        let mut values = vec![0.0; image.data.len()];
        self.normalizer().apply(image, &mut values);
        values
    }

    /// From bytes to numbers.
    pub fn normalizer(&self) -> Normalizer {
        let factor = if self.do_rescale { self.rescale_factor } else { 1.0 };
        let (mean, std) = if self.do_normalize { (self.mean, self.std) } else { ([0.0; 3], [1.0; 3]) };
        Normalizer::with(|channel, value| {
            let rescaled = (f64::from(value) * factor) as f32;
            (rescaled - mean[channel]) / std[channel]
        })
    }

    fn resize_and_crop(&self, picture: &Picture) -> Picture {
        let (full_width, full_height) = picture.full_size();
        let (width, height) = self.resized(full_width, full_height);
        let crop = self.center_crop.unwrap_or(Size { height, width });
        let (canvas_width, canvas_height) = (crop.width.max(1), crop.height.max(1));
        let across = self.middle.place(width, canvas_width);
        let down = self.middle.place(height, canvas_height);
        let area = Area {
            left: across.start,
            top: down.start,
            width: width.min(canvas_width),
            height: height.min(canvas_height),
        };
        let resized = picture.resize_area(width, height, area, self.interpolation);
        resized.on_canvas(canvas_width, canvas_height, across.padding, down.padding, self.fill)
    }

    /// Width and height after resizing.
    fn resized(&self, width: usize, height: usize) -> (usize, usize) {
        match self.resize {
            None => (width, height),
            Some(Resize::ShortestEdge(side)) => shortest_edge_to(width, height, side.max(1)),
            Some(Resize::Squash(size)) => (size.width.max(1), size.height.max(1)),
            Some(Resize::LongestEdge(size)) => {
                let ratio = (width as f64 / size.width as f64).max(height as f64 / size.height as f64);
                let fitted = |side: usize| ((side as f64 / ratio).round_ties_even() as usize).max(1);
                (fitted(width).min(size.width.max(1)), fitted(height).min(size.height.max(1)))
            }
        }
    }
}

/// A picture as RGB, by `convert` where it is not yet.
fn rgb(picture: &Picture, convert: impl Fn(&Picture) -> RgbImage) -> Cow<'_, Picture> {
    match picture.mode() {
        Mode::Rgb => Cow::Borrowed(picture),
        _ => Cow::Owned(Picture { reduced: picture.reduced, ..convert(picture).into() }),
    }
}

/// Width and height with the shorter side of this length, the longer one cut down to a whole number.
pub(crate) fn shortest_edge_to(width: usize, height: usize, side: usize) -> (usize, usize) {
    if width <= height {
        (side, side.saturating_mul(height) / width)
    } else {
        (side.saturating_mul(width) / height, side)
    }
}

/// Where cropping starts and how much padding comes before.
struct Place {
    start: usize,
    padding: usize,
}

impl Middle {
    fn place(self, length: usize, wanted: usize) -> Place {
        let (excess, lack) = (length.saturating_sub(wanted), wanted.saturating_sub(length));
        match self {
            Self::Floor => Place { start: excess / 2, padding: lack.div_ceil(2) },
            Self::HalfToEven => {
                // Of the two integers around an odd half the even one.
                let half = excess / 2;
                Place { start: half + (excess % 2) * (half % 2), padding: lack / 2 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles() {
        let start = |middle: Middle, excess: usize| middle.place(10 + excess, 10).start;
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 7].map(|excess| start(Middle::HalfToEven, excess)),
            [0, 0, 1, 2, 2, 2, 4]
        );
        assert_eq!([0, 1, 2, 3, 4, 5, 7].map(|excess| start(Middle::Floor, excess)), [0, 0, 1, 1, 2, 2, 3]);
        let padding = |middle: Middle| middle.place(7, 10).padding;
        assert_eq!((padding(Middle::HalfToEven), padding(Middle::Floor)), (1, 2));
    }

    #[test]
    fn sizes() {
        let mut transform = Transform::openai(224);
        assert_eq!(transform.resized(640, 480), (298, 224));
        assert_eq!(transform.resized(480, 640), (224, 298));
        assert_eq!(transform.resized(1, 16384), (224, 224 * 16384));
        assert_eq!(transform.output_size(), Some(Size::square(224)));
        transform.resize = Some(Resize::LongestEdge(Size::square(224)));
        assert_eq!(transform.resized(640, 480), (224, 168));
        assert_eq!(transform.resized(16384, 1), (224, 1));
        transform.center_crop = None;
        assert_eq!(transform.output_size(), None);
        transform.resize = Some(Resize::Squash(Size { height: 2, width: 3 }));
        assert_eq!((transform.resized(640, 480), transform.output_size().unwrap().width), ((3, 2), 3));
    }

    #[test]
    fn small_images_are_padded_and_slivers_take_no_memory() {
        let white = RgbImage { width: 2, height: 3, data: vec![255; 18] };
        let mut transform = Transform::openai(5);
        (transform.resize, transform.fill) = (None, 7);
        let image = transform.apply(&white.into());
        let row = |y: usize| -> Vec<u8> { image.data[y * 15..][..15].iter().step_by(3).copied().collect() };
        assert_eq!((row(0), row(1), row(4)), (vec![7; 5], vec![7, 255, 255, 7, 7], vec![7; 5]));

        let sliver = RgbImage { width: 1 << 20, height: 1, data: vec![9; 3 << 20] };
        let image = Transform::hugging_face(224).apply(&sliver.into());
        assert_eq!((image.width, image.height, image.data), (224, 224, vec![9; 224 * 224 * 3]));
    }

    #[test]
    fn steps_can_be_left_out() {
        let image = RgbImage { width: 1, height: 1, data: vec![0, 51, 255] };
        let mut transform = Transform::openai(1);
        transform.do_normalize = false;
        assert_eq!(transform.pixel_values(&image), [0.0, 0.2, 1.0]);
        transform.do_rescale = false;
        assert_eq!(transform.pixel_values(&image), [0.0, 51.0, 255.0]);
        transform.do_normalize = true;
        assert_eq!(transform.pixel_values(&image)[2], (255.0 - OPENAI_MEAN[2]) / OPENAI_STD[2]);
    }
}
