//! A decoded image in the form its file has it.

use super::reduced::Reduced;
use super::resize::Source;
use super::{Area, Interpolation, Orientation, RgbImage, alpha, resize};

/// How pixels are stored: what Pillow calls the mode of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Black and white (`1`).
    Bilevel,
    /// 8-bit grey (`L`).
    Grey,
    /// 8-bit grey and alpha (`LA`).
    GreyAlpha,
    /// Three bytes (`RGB`).
    Rgb,
    /// Three bytes and alpha (`RGBA`).
    Rgba,
    /// Numbers of at most 256 colours (`P`).
    Palette,
    /// 16-bit grey (`I;16`).
    Grey16,
    /// Four inks, 255 is full (`CMYK`).
    Cmyk,
}

impl Mode {
    /// Pillow's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bilevel => "1",
            Self::Grey => "L",
            Self::GreyAlpha => "LA",
            Self::Rgb => "RGB",
            Self::Rgba => "RGBA",
            Self::Palette => "P",
            Self::Grey16 => "I;16",
            Self::Cmyk => "CMYK",
        }
    }
}

/// Pixels, row by row without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pixels {
    /// 0 or 255.
    Bilevel(Vec<u8>),
    Grey(Vec<u8>),
    GreyAlpha(Vec<u8>),
    Rgb(Vec<u8>),
    Rgba(Vec<u8>),
    /// Numbers of colours and the colours as RGBA.
    Palette(Vec<u8>, Box<[[u8; 4]; 256]>),
    Grey16(Vec<u16>),
    Cmyk(Vec<u8>),
}

/// A decoded image in the mode that Pillow gives it.
///
/// Keeping the mode matters because the reference transform of CLIP resizes before it converts to RGB: palette images
/// are resized without blending, alpha weighs colours, grey has one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: Pixels,
    /// A colour that stands for full transparency, in modes without alpha.
    pub(super) transparent: Option<[u8; 3]>,
    pub(super) orientation: Orientation,
    /// How it was made smaller in decoding, if it was.
    pub(super) reduced: Option<Reduced>,
}

impl From<RgbImage> for Picture {
    fn from(image: RgbImage) -> Self {
        Self::new(image.width, image.height, Pixels::Rgb(image.data))
    }
}

impl Picture {
    pub(super) fn new(width: usize, height: usize, pixels: Pixels) -> Self {
        Self { width, height, pixels, transparent: None, orientation: Orientation::Upright, reduced: None }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width and height of the file in pixels; more than those of the picture where [`Picture::decode_for`] reduced it.
    pub fn full_size(&self) -> (usize, usize) {
        self.reduced.map_or((self.width, self.height), |reduced| reduced.full)
    }

    /// How the pixels are stored.
    pub fn mode(&self) -> Mode {
        match self.pixels {
            Pixels::Bilevel(_) => Mode::Bilevel,
            Pixels::Grey(_) => Mode::Grey,
            Pixels::GreyAlpha(_) => Mode::GreyAlpha,
            Pixels::Rgb(_) => Mode::Rgb,
            Pixels::Rgba(_) => Mode::Rgba,
            Pixels::Palette(..) => Mode::Palette,
            Pixels::Grey16(_) => Mode::Grey16,
            Pixels::Cmyk(_) => Mode::Cmyk,
        }
    }

    /// How the camera was held, as the file says. The pixels are as stored; see [`Picture::oriented`].
    pub fn orientation(&self) -> Orientation {
        self.orientation
    }

    /// The picture turned upright. The reference preprocessing of CLIP does not do this.
    #[must_use]
    pub fn oriented(self) -> Self {
        let orientation = self.orientation;
        if orientation == Orientation::Upright {
            return self;
        }
        let size = (self.width, self.height);
        let (width, height) = orientation.size(size);
        let pixels = self.pixels.map(
            |bytes, channels| match channels {
                1 => orientation.apply(bytes.as_chunks::<1>().0, size).into_flattened(),
                2 => orientation.apply(bytes.as_chunks::<2>().0, size).into_flattened(),
                3 => orientation.apply(bytes.as_chunks::<3>().0, size).into_flattened(),
                _ => orientation.apply(bytes.as_chunks::<4>().0, size).into_flattened(),
            },
            |words| orientation.apply(words, size),
        );
        let turned = |reduced: Reduced| Reduced { full: orientation.size(reduced.full), ..reduced };
        let reduced = self.reduced.map(turned);
        Self { width, height, pixels, orientation: Orientation::Upright, reduced, ..self }
    }

    /// RGB as Pillow's `convert("RGB")` gives it: alpha is dropped, the palette looked up, grey of 16 bits clipped.
    pub fn to_rgb(&self) -> RgbImage {
        let data = match &self.pixels {
            Pixels::Rgb(data) => data.clone(),
            Pixels::Bilevel(data) | Pixels::Grey(data) => grey(data.iter().copied()),
            Pixels::GreyAlpha(data) => grey(data.iter().copied().step_by(2)),
            Pixels::Grey16(data) => grey(data.iter().map(|&value| value.min(255) as u8)),
            Pixels::Rgba(data) => {
                data.as_chunks::<4>().0.iter().flat_map(|&[red, green, blue, _]| [red, green, blue]).collect()
            }
            Pixels::Palette(data, palette) => data
                .iter()
                .flat_map(|&number| {
                    let [red, green, blue, _] = palette[usize::from(number)];
                    [red, green, blue]
                })
                .collect(),
            Pixels::Cmyk(data) => data.as_chunks::<4>().0.iter().flat_map(cmyk_to_rgb).collect(),
        };
        RgbImage { width: self.width, height: self.height, data }
    }

    /// [`Picture::to_rgb`] without a copy where the picture is RGB.
    pub fn into_rgb(self) -> RgbImage {
        match self.pixels {
            Pixels::Rgb(data) => RgbImage { width: self.width, height: self.height, data },
            _ => self.to_rgb(),
        }
    }

    /// RGB as the processors of Hugging Face make it: whatever is transparent is laid on white.
    pub fn to_rgb_on_white(&self) -> RgbImage {
        let mut image = self.to_rgb();
        let pixels = image.data.as_chunks_mut::<3>().0;
        match &self.pixels {
            Pixels::Rgba(data) => lay_on_white(pixels, data.iter().copied().skip(3).step_by(4)),
            Pixels::GreyAlpha(data) => lay_on_white(pixels, data.iter().copied().skip(1).step_by(2)),
            Pixels::Palette(data, palette) => {
                lay_on_white(pixels, data.iter().map(|&number| palette[usize::from(number)][3]));
            }
            Pixels::Bilevel(_) | Pixels::Grey(_) | Pixels::Grey16(_) => {
                if let Some(transparent) = self.transparent {
                    pixels
                        .iter_mut()
                        .filter(|pixel| **pixel == transparent)
                        .for_each(|pixel| *pixel = [255; 3]);
                }
            }
            // An RGB image is taken as it is, even if one of its colours stands for transparency.
            Pixels::Rgb(_) | Pixels::Cmyk(_) => {}
        }
        image
    }

    /// Resizes in the picture's own mode as Pillow does: palette and black-and-white pictures without blending, colours
    /// weighed by alpha.
    ///
    /// # Panics
    /// Where a side is 0.
    #[must_use]
    pub fn resize(&self, width: usize, height: usize, interpolation: Interpolation) -> Self {
        self.resize_area(width, height, Area { left: 0, top: 0, width, height }, interpolation)
    }

    /// The part `area` of what [`Picture::resize`] returns for `width` and `height`; only this part is computed.
    ///
    /// # Panics
    /// Where a side is 0 or the part is not inside the result.
    #[must_use]
    pub fn resize_area(&self, width: usize, height: usize, area: Area, interpolation: Interpolation) -> Self {
        let (from, to) = ((self.width, self.height), (width, height));
        let blends = interpolation != Interpolation::Nearest && from != to;
        let source = Source { size: from, extent: self.reduced.map(Reduced::extent) };
        let bytes = |data: &[u8], channels| match channels {
            1 => resize::resample::<1>(data, source, to, area, interpolation),
            2 => resize::resample::<2>(data, source, to, area, interpolation),
            3 => resize::resample::<3>(data, source, to, area, interpolation),
            _ => resize::resample::<4>(data, source, to, area, interpolation),
        };
        let pixels = match &self.pixels {
            Pixels::Bilevel(data) => Pixels::Bilevel(resize::pick(data, from, to, area)),
            Pixels::Palette(data, palette) => {
                Pixels::Palette(resize::pick(data, from, to, area), palette.clone())
            }
            Pixels::GreyAlpha(data) if blends => {
                let mut resized = bytes(&alpha::premultiplied::<2>(data), 2);
                alpha::unpremultiply::<2>(&mut resized);
                Pixels::GreyAlpha(resized)
            }
            Pixels::Rgba(data) if blends => {
                let mut resized = bytes(&alpha::premultiplied::<4>(data), 4);
                alpha::unpremultiply::<4>(&mut resized);
                Pixels::Rgba(resized)
            }
            Pixels::Grey16(data) => {
                Pixels::Grey16(resize::resample_words(data, from, to, area, interpolation))
            }
            Pixels::Grey(data) => Pixels::Grey(bytes(data, 1)),
            Pixels::GreyAlpha(data) => Pixels::GreyAlpha(bytes(data, 2)),
            Pixels::Rgb(data) => Pixels::Rgb(bytes(data, 3)),
            Pixels::Rgba(data) => Pixels::Rgba(bytes(data, 4)),
            Pixels::Cmyk(data) => Pixels::Cmyk(bytes(data, 4)),
        };
        Self {
            width: area.width,
            height: area.height,
            pixels,
            transparent: self.transparent,
            orientation: self.orientation,
            reduced: None,
        }
    }

    /// The picture at (`left`, `top`) of a canvas of `width` by `height`, in its own mode; `fill` is the value of every
    /// channel elsewhere.
    pub(super) fn on_canvas(self, width: usize, height: usize, left: usize, top: usize, fill: u8) -> Self {
        if (width, height) == (self.width, self.height) {
            return self;
        }
        let own_width = self.width;
        let place = |bytes: &[u8], channels: usize| {
            let mut canvas = vec![fill; width * height * channels];
            let lines = canvas.chunks_exact_mut(width * channels).skip(top);
            for (line, own) in lines.zip(bytes.chunks_exact(own_width * channels)) {
                line[left * channels..left * channels + own.len()].copy_from_slice(own);
            }
            canvas
        };
        let pixels = self.pixels.map(
            |bytes, channels| place(bytes, channels),
            |words| {
                let mut canvas = vec![u16::from(fill); width * height];
                for (line, own) in canvas.chunks_exact_mut(width).skip(top).zip(words.chunks_exact(own_width))
                {
                    line[left..left + own.len()].copy_from_slice(own);
                }
                canvas
            },
        );
        Self { width, height, pixels, ..self }
    }
}

impl Pixels {
    /// Rearranges pixels: `bytes` is also given the number of bytes a pixel.
    fn map(self, bytes: impl Fn(&[u8], usize) -> Vec<u8>, words: impl Fn(&[u16]) -> Vec<u16>) -> Self {
        match self {
            Self::Bilevel(data) => Self::Bilevel(bytes(&data, 1)),
            Self::Grey(data) => Self::Grey(bytes(&data, 1)),
            Self::GreyAlpha(data) => Self::GreyAlpha(bytes(&data, 2)),
            Self::Rgb(data) => Self::Rgb(bytes(&data, 3)),
            Self::Rgba(data) => Self::Rgba(bytes(&data, 4)),
            Self::Palette(data, palette) => Self::Palette(bytes(&data, 1), palette),
            Self::Grey16(data) => Self::Grey16(words(&data)),
            Self::Cmyk(data) => Self::Cmyk(bytes(&data, 4)),
        }
    }
}

fn grey(values: impl Iterator<Item = u8>) -> Vec<u8> {
    values.flat_map(|value| [value; 3]).collect()
}

/// The light that inks let through, as Pillow computes it without a colour profile.
fn cmyk_to_rgb(&[cyan, magenta, yellow, black]: &[u8; 4]) -> [u8; 3] {
    let light = 255 - black;
    [cyan, magenta, yellow].map(|ink| light - alpha::multiply(ink, light))
}

/// Lays pixels on white with the rounding of Pillow's `alpha_composite`.
fn lay_on_white(pixels: &mut [[u8; 3]], alphas: impl Iterator<Item = u8>) {
    for (pixel, alpha) in pixels.iter_mut().zip(alphas) {
        let alpha = u32::from(alpha);
        *pixel = pixel.map(|value| {
            let sum = 128 * (u32::from(value) * alpha + 255 * (255 - alpha)) + (128 << 7);
            ((((sum >> 8) + sum) >> 8) >> 7) as u8
        });
    }
}
