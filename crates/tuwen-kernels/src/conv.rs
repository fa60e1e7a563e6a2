//! Two-dimensional convolution of images `[batch, height, width, channels]`, as products whose left operand, the
//! windows, is never written to memory: windows are packed straight from the image.
//!
//! Channels lie together, so that a line of a window is one run of memory, and a kernel of one pixel is a plain product.
//! Folded batch norm, activation and residual are the epilogue of the product. At stride 1 the gradient of the input is a
//! convolution too, with the kernel turned around; that of the weight is a product along all pixels, cut into streams.

use std::ops::Range;
use std::sync::OnceLock;

use crate::aligned::Scratch;
use crate::bf16::nearest;
use crate::gemm::{
    Epilogue, Kernel, Left, MAX_ROWS, MatRef, NARROW, PANEL, PackedB, Panels, ReducedPanels, Right,
    RowBlocks, gemm, matmul, product_of_long_sums,
};
use crate::isa::{Isa, isa};
use crate::precision::Precision;
use crate::threads::parallel_chunks_mut;
use crate::winograd::{self, Transformed};

/// Sizes of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Number of images.
    pub batch: usize,
    /// Rows of an input image.
    pub height: usize,
    /// Columns of an input image.
    pub width: usize,
    /// Channels of an input pixel.
    pub in_channels: usize,
    /// Channels of an output pixel.
    pub out_channels: usize,
    /// Rows and columns of the kernel.
    pub kernel: usize,
    /// Distance of neighbouring windows.
    pub stride: usize,
    /// Rows or columns of zeros around the image.
    pub padding: usize,
}

impl ConvShape {
    /// Rows of an output image.
    pub fn out_height(&self) -> usize {
        self.out(self.height)
    }

    /// Columns of an output image.
    pub fn out_width(&self) -> usize {
        self.out(self.width)
    }

    fn out(&self, size: usize) -> usize {
        assert!(self.kernel > 0 && self.stride > 0, "convolution: kernel and stride are at least 1");
        (size + 2 * self.padding).checked_sub(self.kernel).map_or(0, |room| room / self.stride + 1)
    }

    /// Elements of a window.
    fn window(&self) -> usize {
        self.kernel * self.kernel * self.in_channels
    }

    /// Pixels of all output images.
    fn out_pixels(&self) -> usize {
        self.batch * self.out_height() * self.out_width()
    }

    fn input_len(&self) -> usize {
        self.batch * self.height * self.width * self.in_channels
    }

    /// Whether each window is one pixel, and each pixel a window.
    fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    /// Whether sums are long, and each number of the input meets enough of the weight, for what is saved to be more than making bytes
    /// of the input and numbers of the sums; in whole tiles of bytes.
    fn is_worth_bytes(&self) -> bool {
        const STEP: usize = 64;
        const NUMBERS: usize = 256;
        let (long, wide) = (self.window(), self.kernel * self.kernel * self.out_channels);
        self.in_channels.is_multiple_of(STEP) && long >= NUMBERS && wide >= NUMBERS
    }

    /// Checks the lengths of the input, the weight and the output where they take part.
    pub(crate) fn check(&self, operation: &str, x: Option<usize>, weight: Option<usize>, y: Option<usize>) {
        let expected =
            [self.input_len(), self.out_channels * self.window(), self.out_pixels() * self.out_channels];
        for ((name, got), expected) in
            ["input", "weight", "output"].into_iter().zip([x, weight, y]).zip(expected)
        {
            if let Some(got) = got {
                assert_eq!(got, expected, "{operation}: length of the {name} of {self:?}");
            }
        }
    }
}

/// A convolution weight, laid out for the kernels.
#[derive(Debug)]
pub struct PackedConv {
    /// `[kernel, kernel, in, out]`
    weight: PackedB,
    /// The same as a sum of bf16 numbers, where that was asked for.
    split: OnceLock<Option<PackedB>>,
    /// The same transformed, where it has been used so.
    transformed: OnceLock<Transformed>,
}

impl PackedConv {
    /// Packs `weight [out, in, kernel, kernel]` for convolutions of this precision; for those of int8 in bf16 where there are
    /// tiles and few weights for each number of the input, because making bytes of maps takes longer then than they save.
    pub fn pack(weight: &[f32], shape: &ConvShape, precision: Precision) -> Self {
        shape.check("PackedConv", None, Some(weight.len()), None);
        let in_bytes = isa() != Isa::Amx || shape.is_worth_bytes();
        let precision = if in_bytes { precision } else { precision.of_activations() };
        let (k, i, o) = (shape.kernel, shape.in_channels, shape.out_channels);
        if k == 1 {
            return Self::of(PackedB::pack_as(MatRef::new(weight, o, i).t(), precision));
        }
        let mut channels_last = Scratch::take(weight.len());
        crate::permute(weight, &[o, i, k * k], &[0, 2, 1], &mut channels_last);
        Self::of(PackedB::pack_as(MatRef::new(&channels_last, o, shape.window()).t(), precision))
    }

    fn of(weight: PackedB) -> Self {
        Self { weight, split: OnceLock::new(), transformed: OnceLock::new() }
    }

    /// The weight in bf16 or int8, if it was packed so.
    pub(crate) fn reduced(&self) -> Option<ReducedPanels<'_>> {
        self.weight.reduced()
    }

    /// The weight `w` in f32 as the sum of `h = bf16(w)` and `l = bf16(w - h)`: for each tap of the kernel the rows `h`, `h` and
    /// `l` of its channels, which are to meet the rounded input, what rounding left of it, and the rounded input again.
    pub(crate) fn split(&self, channels: usize) -> Option<ReducedPanels<'_>> {
        let split = || {
            let (columns, rows) = (self.weight.n(), self.weight.rows()?);
            let mut parts = Vec::with_capacity(3 * rows.len());
            for tap in rows.chunks_exact((channels * columns).max(1)) {
                let high: Vec<f32> = tap.iter().map(|&w| f32::from_bits(nearest(w) << 16)).collect();
                let low = tap.iter().zip(&high).map(|(w, high)| w - high);
                parts.extend_from_slice(&high);
                parts.extend_from_slice(&high);
                parts.extend(low);
            }
            let parts = MatRef::new(&parts, 3 * self.weight.k(), columns);
            Some(PackedB::pack_as(parts, Precision::Bf16))
        };
        self.split.get_or_init(split).as_ref()?.reduced()
    }

    /// Packs the weight of the convolution that takes output gradients to input gradients at stride 1: the kernel
    /// turned around, input and output channels exchanged.
    fn pack_for_backward(weight: &[f32], shape: &ConvShape) -> Self {
        let (taps, i, o) = (shape.kernel * shape.kernel, shape.in_channels, shape.out_channels);
        let mut turned = Scratch::take(weight.len());
        crate::permute(weight, &[o, i, taps], &[2, 0, 1], &mut turned);
        let plane = o * i;
        for tap in 0..taps / 2 {
            let (front, back) = turned.split_at_mut((taps - 1 - tap) * plane);
            front[tap * plane..][..plane].swap_with_slice(&mut back[..plane]);
        }
        Self::of(PackedB::pack(MatRef::new(&turned, taps * o, i)))
    }
}

/// The windows of an image as the rows of a matrix `[out pixels, kernel · kernel · in]`, which is not stored. A line
/// of a window (its pixels in one image row) is contiguous in the image, unless it hangs over the border.
struct Windows<'a> {
    x: &'a [f32],
    shape: &'a ConvShape,
    out_height: usize,
    out_width: usize,
}

/// Where a window is: its image, and its top left corner, in which the padding counts.
#[derive(Clone, Copy, Default)]
struct Place {
    image: usize,
    top: usize,
    left: usize,
}

impl<'a> Windows<'a> {
    fn new(x: &'a [f32], shape: &'a ConvShape) -> Self {
        Self { x, shape, out_height: shape.out_height(), out_width: shape.out_width() }
    }

    #[inline(always)]
    fn place(&self, pixel: usize) -> Place {
        let (line, column) = (pixel / self.out_width, pixel % self.out_width);
        let (image, row) = (line / self.out_height, line % self.out_height);
        Place { image, top: row * self.shape.stride, left: column * self.shape.stride }
    }

    /// Length of a line of a window.
    fn line(&self) -> usize {
        self.shape.kernel * self.shape.in_channels
    }

    /// The window columns of `range` that fall into each line, as the number of the line and a range within it.
    #[inline(always)]
    fn lines(&self, range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let line = self.line();
        (range.start / line..range.end.div_ceil(line))
            .map(move |i| (i, range.start.max(i * line) - i * line..range.end.min((i + 1) * line) - i * line))
    }

    /// How many windows from `place` on, of at most `limit` in its row, lie side by side between the left and the right
    /// border; 1 if it hangs over one.
    #[inline(always)]
    fn run(&self, place: Place, limit: usize) -> usize {
        let &ConvShape { width, padding, kernel, stride, .. } = self.shape;
        if place.left < padding || place.left + kernel > width + padding {
            return 1;
        }
        ((width + padding - kernel - place.left) / stride + 1).min(limit)
    }

    /// Elements `range` of line `line` of a window: in the image, or in `border` where part of them is padding. With
    /// them, how far away they are for the next window of a [`run`](Self::run).
    #[inline(always)]
    fn values(
        &self,
        place: Place,
        line: usize,
        range: Range<usize>,
        border: &mut [f32],
    ) -> (*const f32, usize) {
        let &ConvShape { height, width, in_channels, padding, kernel, stride, .. } = self.shape;
        let row = (place.top + line).wrapping_sub(padding);
        let at = (place.image * height + row) * width * in_channels;
        if row < height && place.left >= padding && place.left - padding + kernel <= width {
            let values = &self.x[at + (place.left - padding) * in_channels..][range];
            return (values.as_ptr(), stride * in_channels);
        }
        let border = &mut border[..range.len()];
        border.fill(0.0);
        if row < height {
            // The part of the line within the image, in elements of the line.
            let first = padding.saturating_sub(place.left) * in_channels;
            let last = (width + padding).saturating_sub(place.left).min(kernel) * in_channels;
            let (from, to) = (first.max(range.start), last.min(range.end));
            if from < to {
                let source = at + place.left * in_channels + from - padding * in_channels;
                border[from - range.start..to - range.start].copy_from_slice(&self.x[source..][..to - from]);
            }
        }
        (border.as_ptr(), 0)
    }
}

impl Left for Windows<'_> {
    #[inline(always)]
    unsafe fn pack<K: Kernel>(&self, blocks: &RowBlocks, depth: Range<usize>, out: &mut [f32]) {
        let line_len = self.line();
        if line_len == 0 {
            return; // no channels
        }
        let mut borders = Scratch::take(MAX_ROWS * line_len);
        for index in 0..blocks.count {
            let (rows, offset) = (blocks.get(index), blocks.offset(index, depth.len()));
            let height = rows.len();
            let out = &mut out[offset..][..height * depth.len()];
            let mut places = [Place::default(); MAX_ROWS];
            places.iter_mut().zip(rows).for_each(|(place, pixel)| *place = self.place(pixel));
            let mut done = 0;
            for (line, range) in self.lines(depth.clone()) {
                let mut sources = [std::ptr::null(); MAX_ROWS];
                let borders = borders.chunks_exact_mut(line_len);
                for ((source, &place), border) in sources.iter_mut().zip(&places[..height]).zip(borders) {
                    (*source, _) = self.values(place, line, range.clone(), border);
                }
                let out = out[done * height..][..range.len() * height].as_mut_ptr();
                // SAFETY: each source has the elements of the range; the slice above holds them for all rows.
                unsafe { K::interleave(&sources[..height], range.len(), out, height, height) };
                done += range.len();
            }
        }
    }

    fn has_whole_rows(&self) -> bool {
        false
    }

    #[inline(always)]
    unsafe fn rows<K: Kernel>(
        &self,
        rows: Range<usize>,
        depth: Range<usize>,
        scratch: &mut [f32],
    ) -> [*const f32; 16] {
        let len = depth.len();
        if self.line() > 0 {
            let mut border = Scratch::take(self.line());
            for (pixel, out) in rows.zip(scratch.chunks_exact_mut(len.max(1))) {
                let (place, mut done) = (self.place(pixel), 0);
                for (line, range) in self.lines(depth.clone()) {
                    let count = range.len();
                    let (values, _) = self.values(place, line, range, &mut border);
                    // SAFETY: a line has `count` values, in the image or in `border`.
                    out[done..done + count]
                        .copy_from_slice(unsafe { std::slice::from_raw_parts(values, count) });
                    done += count;
                }
            }
        }
        std::array::from_fn(|i| scratch.as_ptr().wrapping_add(i * len))
    }
}

impl Right for Windows<'_> {
    #[inline(always)]
    unsafe fn pack<K: Kernel>(&self, depth: Range<usize>, panels: Range<usize>, out: &mut [f32]) {
        let window = self.shape.window();
        let columns = panels.start * PANEL..window.min(panels.end * PANEL);
        assert!(out.len() >= Panels::stored(window, panels.clone()) * depth.len());
        if columns.len() % NARROW != 0 {
            out[(panels.len() - 1) * PANEL * depth.len()..].fill(0.0);
        }
        let mut border = Scratch::take(self.line());
        let mut pixel = depth.start;
        while pixel < depth.end {
            let place = self.place(pixel);
            let run = self.run(place, (self.out_width - pixel % self.out_width).min(depth.end - pixel));
            for (line, range) in self.lines(columns.clone()) {
                let mut column = line * self.line() + range.start;
                let end = line * self.line() + range.end;
                let (values, stride) = self.values(place, line, range, &mut border);
                let first = column;
                while column < end {
                    // Up to the next half panel.
                    let len = (NARROW - column % NARROW).min(end - column);
                    let (panel, width) = (column / PANEL, Panels::width(window, column / PANEL));
                    let at = (panel - panels.start) * PANEL * depth.len() + (pixel - depth.start) * width;
                    let out = out[at + column % PANEL..][..(run - 1) * width + len].as_mut_ptr();
                    // SAFETY: the windows of the run have `len` values at that stride; the slice above is the target.
                    unsafe { K::copy(values.add(column - first), stride, len, run, out, width, len) };
                    column += len;
                }
            }
            pixel += run;
        }
    }
}

/// Convolution of `x [batch, height, width, in]` with a packed weight, then the epilogue.
pub fn conv2d(x: &[f32], packed: &PackedConv, shape: &ConvShape, y: &mut [f32], epilogue: &Epilogue) {
    shape.check("conv2d", Some(x.len()), None, Some(y.len()));
    let (pixels, weight) = (shape.out_pixels(), &packed.weight);
    assert!(
        weight.k() == shape.window() && weight.n() == shape.out_channels,
        "conv2d: the weight was packed as [{}, {}], not for {shape:?}",
        weight.k(),
        weight.n()
    );
    epilogue.check(pixels, shape.out_channels);
    if shape.is_pointwise() {
        return gemm(MatRef::new(x, pixels, shape.in_channels), weight, y, epilogue);
    }
    if let Some(panels) = weight.panels().filter(|_| winograd::is_suited(shape)) {
        let transformed = packed.transformed.get_or_init(|| Transformed::of(panels, shape.in_channels));
        return winograd::convolve(x, transformed, shape, y, epilogue);
    }
    weight.multiply(&Windows::new(x, shape), pixels, y, epilogue);
}

/// Gradient of [`conv2d`] with respect to its input; `dx` is overwritten. `weight` is `[out, in, kernel, kernel]`.
pub fn conv2d_backward_input(dy: &[f32], weight: &[f32], shape: &ConvShape, dx: &mut [f32]) {
    shape.check("conv2d_backward_input", Some(dx.len()), Some(weight.len()), Some(dy.len()));
    if shape.stride == 1 && shape.padding < shape.kernel {
        let backward = ConvShape {
            height: shape.out_height(),
            width: shape.out_width(),
            in_channels: shape.out_channels,
            out_channels: shape.in_channels,
            padding: shape.kernel - 1 - shape.padding,
            ..*shape
        };
        // A kernel larger than the padded image has no output, and no gradient.
        if backward.height * backward.width > 0 {
            let weight = PackedConv::pack_for_backward(weight, shape);
            return conv2d(dy, &weight, &backward, dx, &Epilogue::default());
        }
    }
    scatter_windows(dy, weight, shape, dx);
}

/// The input gradient at any stride: the gradient of each window, added where the window lies.
fn scatter_windows(dy: &[f32], weight: &[f32], shape: &ConvShape, dx: &mut [f32]) {
    let &ConvShape { height, width, in_channels, out_channels, kernel, stride, padding, .. } = shape;
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    let mut channels_last = vec![0.0; weight.len()];
    crate::permute(weight, &[out_channels, in_channels, kernel * kernel], &[0, 2, 1], &mut channels_last);
    let weight = PackedB::pack(MatRef::new(&channels_last, out_channels, shape.window()));
    let image_len = height * width * in_channels;
    if image_len == 0 {
        return;
    }
    parallel_chunks_mut(dx, image_len, |image, dx| {
        dx.fill(0.0);
        let mut windows = Scratch::take(out_width * shape.window());
        for out_row in 0..out_height {
            let line = (image * out_height + out_row) * out_width * out_channels;
            let dy = MatRef::new(&dy[line..][..out_width * out_channels], out_width, out_channels);
            gemm(dy, &weight, &mut windows, &Epilogue::default());
            for (tap, column) in (0..kernel * kernel).flat_map(|tap| (0..out_width).map(move |c| (tap, c))) {
                let row = (out_row * stride + tap / kernel).wrapping_sub(padding);
                let col = (column * stride + tap % kernel).wrapping_sub(padding);
                if row < height && col < width {
                    let source = &windows[column * shape.window() + tap * in_channels..][..in_channels];
                    let target = &mut dx[(row * width + col) * in_channels..][..in_channels];
                    target.iter_mut().zip(source).for_each(|(t, s)| *t += s);
                }
            }
        }
    });
}

/// Gradient of [`conv2d`] with respect to its weight `[out, in, kernel, kernel]`; `dweight` is overwritten.
pub fn conv2d_backward_weight(x: &[f32], dy: &[f32], shape: &ConvShape, dweight: &mut [f32]) {
    shape.check("conv2d_backward_weight", Some(x.len()), Some(dweight.len()), Some(dy.len()));
    let (pixels, o, i) = (shape.out_pixels(), shape.out_channels, shape.in_channels);
    let dy = MatRef::new(dy, pixels, o).t();
    if shape.is_pointwise() {
        return matmul(dy, MatRef::new(x, pixels, i), dweight, &Epilogue::default());
    }
    let mut channels_last = Scratch::take(dweight.len());
    let windows = Windows::new(x, shape);
    product_of_long_sums(Precision::F32, &dy, &windows, shape.window(), &mut channels_last);
    crate::permute(&channels_last, &[o, shape.kernel * shape.kernel, i], &[0, 2, 1], dweight);
}
