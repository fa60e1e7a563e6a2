//! Feature maps in bf16: what the convolutions of a network in inference hand on to each other where the CPU has tiles.
//!
//! A pixel of a map lies in memory as a row of a tile is read, so that the left operand of a convolution is the map itself,
//! at any tap of the kernel: nothing is packed and no window is written. Maps take half of the memory traffic of f32, which
//! is what limits the convolutions of few channels.
//!
//! Layout: pixels follow each other in rows of `width + 1` and images of `height + 1` rows. What is more than the image is
//! zero, and is the border of both neighbours: the pixel left of a row is the last of the row before. One row and a
//! pixel of zeros lie ahead of the first image.

#[cfg(target_arch = "x86_64")]
mod bytes;
#[cfg(target_arch = "x86_64")]
mod multiply;
#[cfg(target_arch = "x86_64")]
mod numbers;
#[cfg(target_arch = "x86_64")]
mod stem;
#[cfg(target_arch = "x86_64")]
mod tiles;

use crate::conv::{ConvShape, PackedConv};
use crate::isa::{Isa, isa};

/// Sizes of feature maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapShape {
    /// Number of images.
    pub batch: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Channels of a pixel.
    pub channels: usize,
    /// Whether a number is stored as the sum of two, with 16 significant bits: of each pixel first the channels rounded,
    /// then what rounding left of them.
    pub exact: bool,
}

/// Numbers of a row of a tile, and rows of a block: channels come in whole ones.
const STEP: usize = 32;

impl MapShape {
    /// Of the result of a convolution.
    pub fn of_convolution(shape: &ConvShape, exact: bool) -> Self {
        let (height, width) = (shape.out_height(), shape.out_width());
        Self { batch: shape.batch, height, width, channels: shape.out_channels, exact }
    }

    /// Whether there is something that computes with maps of this shape.
    pub fn is_supported(&self) -> bool {
        isa() == Isa::Amx && !self.is_empty() && self.channels.is_multiple_of(STEP)
    }

    /// Numbers of all images.
    pub fn len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }

    /// Whether there are no numbers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of the memory that maps take, in f32.
    pub fn stored(&self) -> usize {
        (self.lead() + self.pixels() + self.lead() + STEP) * self.depth() / 2
    }

    /// Distance of vertical neighbours in pixels.
    fn pitch(&self) -> usize {
        self.width + 1
    }

    /// bf16 numbers of a pixel.
    fn depth(&self) -> usize {
        self.channels << u32::from(self.exact)
    }

    /// Pixels ahead of the first image.
    fn lead(&self) -> usize {
        self.pitch() + 1
    }

    /// Pixels of all images with their borders.
    fn pixels(&self) -> usize {
        self.batch * (self.height + 1) * self.pitch()
    }

    /// What pooling makes of it.
    pub fn halved(&self) -> Self {
        Self { height: self.height / 2, width: self.width / 2, exact: false, ..*self }
    }

    fn check(&self, operation: &str, maps: &[f32]) {
        assert!(self.is_supported(), "{operation}: {self:?} on {:?}", isa());
        assert_eq!(maps.len(), self.stored(), "{operation}: memory of {self:?}");
    }
}

/// What follows a convolution of maps: `relu(product + bias + residual)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct MapEpilogue<'a> {
    /// One number per channel.
    pub bias: Option<&'a [f32]>,
    /// Maps of the shape of the result.
    pub residual: Option<&'a [f32]>,
    /// Whether negative numbers become zero.
    pub relu: bool,
}

/// Convolution of maps, of stride 1 and the same size. Sums are f32 and their end is rounded to bf16.
///
/// Where the weight is packed in int8, sums are of integers and exact. Each pixel is then rounded to bytes
/// ([`reference::round_to_bytes`](crate::reference::round_to_bytes)), or each image if the kernel has more than one pixel: numbers must
/// not be negative.
///
/// Exact maps are for a weight in single precision, and the result is exact too: numbers and weight are sums `h + l` of two bf16
/// numbers, and of their product all but `l l` is computed, which leaves an error of about 2^-16.
pub fn conv_maps(
    x: &[f32],
    weight: &PackedConv,
    shape: &ConvShape,
    exact: bool,
    epilogue: &MapEpilogue,
    y: &mut [f32],
) {
    let &ConvShape { batch, height, width, in_channels, out_channels, .. } = shape;
    let [from, to] =
        [in_channels, out_channels].map(|channels| MapShape { batch, height, width, channels, exact });
    from.check("conv_maps: input", x);
    to.check("conv_maps: output", y);
    let panels = if exact { weight.split(in_channels) } else { weight.reduced() };
    let same_size = shape.stride == 1 && matches!((shape.kernel, shape.padding), (1, 0) | (3, 1));
    assert!(panels.is_some() && same_size, "conv_maps: {shape:?}, or the precision of its weight");
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == to.channels), "conv_maps: length of the bias");
    if let Some(residual) = epilogue.residual {
        to.check("conv_maps: residual", residual);
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(panels) = panels {
        tiles::convolve(x, panels, [from, to], epilogue, y);
    }
}

/// Convolution of images `x [batch, in, height, width]` of few channels, of any stride and all in f32, whose end is rounded to maps:
/// `relu(product + bias)` with `weight [out, in, kernel, kernel]`.
pub fn conv_to_maps(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    shape: &ConvShape,
    relu: bool,
    exact: bool,
    y: &mut [f32],
) {
    let to = MapShape::of_convolution(shape, exact);
    to.check("conv_to_maps", y);
    shape.check("conv_to_maps", Some(x.len()), Some(weight.len()), Some(to.len()));
    assert_eq!(bias.len(), to.channels, "conv_to_maps: length of the bias");
    #[cfg(target_arch = "x86_64")]
    stem::convolve(x, weight, bias, shape, relu, &to, y);
}

/// Rounds `x [batch, height, width, channels]` to bf16, or to sums of two numbers where maps are exact.
pub fn maps_of(x: &[f32], shape: &MapShape, maps: &mut [f32]) {
    shape.check("maps_of", maps);
    assert_eq!(x.len(), shape.len(), "maps_of: length of {shape:?}");
    #[cfg(target_arch = "x86_64")]
    numbers::store(x, shape, maps);
}

/// The numbers of maps, `[batch, height, width, channels]`.
pub fn numbers_of(maps: &[f32], shape: &MapShape, x: &mut [f32]) {
    shape.check("numbers_of", maps);
    assert_eq!(x.len(), shape.len(), "numbers_of: length of {shape:?}");
    #[cfg(target_arch = "x86_64")]
    numbers::load(maps, shape, x);
}

/// Means of two by two pixels, which are not exact in any case; what is left over at the right and the bottom is ignored.
pub fn pool_maps(x: &[f32], shape: &MapShape, y: &mut [f32]) {
    let pooled = shape.halved();
    shape.check("pool_maps: input", x);
    pooled.check("pool_maps: output", y);
    #[cfg(target_arch = "x86_64")]
    numbers::pool(x, shape, &pooled, y);
}
