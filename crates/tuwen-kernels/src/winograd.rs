//! Convolutions of three by three pixels by Winograd's minimal filtering F(2x2, 3x3): 16 multiplications for four outputs of
//! a channel instead of 36 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", section 4.1).
//!
//! Input squares of four by four pixels, two apart, are transformed (additions only), and so was the kernel; each of the 16
//! points of the transform is a product of squares by channels with channels by channels; what comes out is transformed back to
//! two by two pixels. The squares of a task stay in the second-level cache through all of it, and no window is written: one
//! square in place of four windows of nine pixels. In single precision the error grows to about twice that of plain sums.

use std::ops::Range;

use crate::aligned::{AlignedBuf, Scratch};
use crate::conv::ConvShape;
use crate::gemm::{
    Epilogue, Kernel, MAX_ROWS, MatRef, PANEL, Panels, Stage, Target, Task, dispatch, multiply,
};
use crate::threads::{SendPtr, parallel_for, threads};

/// Points of the transform.
const POINTS: usize = 16;
/// Least number of channels: below, transforms cost more than they save.
const CHANNELS: usize = 16;
/// Elements of transformed squares and products that a task keeps in the second-level cache.
const BUDGET: usize = 320 << 10;

/// Each of four points from three taps, along one axis.
const TAPS: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

/// Whether a convolution is of this kind.
pub(crate) fn is_suited(shape: &ConvShape) -> bool {
    let channels = shape.in_channels.min(shape.out_channels);
    shape.kernel == 3 && shape.stride == 1 && shape.padding == 1 && channels >= CHANNELS
}

/// A transformed weight: for each point the panels of `[in, out]`.
#[derive(Debug)]
pub(crate) struct Transformed {
    data: AlignedBuf,
    in_channels: usize,
    out_channels: usize,
}

multiversion! {
    fn add_scaled(factor: f32, x: &[f32], sum: &mut [f32]) {
        for (sum, x) in sum.iter_mut().zip(x) {
            *sum += factor * x;
        }
    }
}

impl Transformed {
    /// Of a weight `[3, 3, in, out]`. Panels hold the rows of a tap side by side, so that the transform is one of panels.
    pub(crate) fn of(weight: Panels, in_channels: usize) -> Self {
        let panels = Panels::count(weight.columns);
        let stored = in_channels * Panels::stored(weight.columns, 0..panels);
        let mut data = AlignedBuf::zeroed(POINTS * stored);
        let start = SendPtr(data.as_mut_ptr());
        parallel_for(panels, |index| {
            let (first, len) = (index * PANEL, in_channels * Panels::width(weight.columns, index));
            let taps = &weight.data[first * weight.depth..][..9 * len];
            for point in 0..POINTS {
                // SAFETY: this panel of this point, which is this task's.
                let out = unsafe { start.slice(point * stored + first * in_channels, len) };
                for (tap, values) in taps.chunks_exact(len).enumerate() {
                    let factor = TAPS[point / 4][tap / 3] * TAPS[point % 4][tap % 3];
                    if factor != 0.0 {
                        add_scaled(factor, values, out);
                    }
                }
            }
        });
        Self { data, in_channels, out_channels: weight.columns }
    }

    fn panels(&self, point: usize) -> Panels<'_> {
        let stored = self.data.len() / POINTS;
        let data = &self.data[point * stored..][..stored];
        Panels { data, depth: self.in_channels, columns: self.out_channels }
    }
}

/// The squares of all images, row by row.
#[derive(Clone, Copy)]
struct Squares<'a> {
    shape: &'a ConvShape,
    rows: usize,
    columns: usize,
}

impl Squares<'_> {
    fn count(&self) -> usize {
        self.shape.batch * self.rows * self.columns
    }

    /// Image, and the row and column of the first output pixel.
    fn place(&self, square: usize) -> [usize; 3] {
        let (line, column) = (square / self.columns, square % self.columns);
        [line / self.rows, line % self.rows * 2, column * 2]
    }
}

/// The convolution of `x [batch, height, width, in]`, then the epilogue.
pub(crate) fn convolve(
    x: &[f32],
    weight: &Transformed,
    shape: &ConvShape,
    y: &mut [f32],
    epilogue: &Epilogue,
) {
    let squares = Squares { shape, rows: shape.height.div_ceil(2), columns: shape.width.div_ceil(2) };
    let (count, panels) = (squares.count(), Panels::count(shape.out_channels));
    if count == 0 {
        return;
    }
    let per_task =
        (BUDGET / (POINTS * (shape.in_channels + shape.out_channels))).clamp(2 * MAX_ROWS, 8 * MAX_ROWS);
    let bands = match count.div_ceil(per_task) {
        1 => 1,
        bands => bands.next_multiple_of(threads()),
    };
    let groups = if bands < threads() { threads().min(panels) } else { 1 };
    let c = Target { start: SendPtr(y.as_mut_ptr()), stride: shape.out_channels };
    parallel_for(bands * groups, |task| {
        let part = |len: usize, index: usize, count: usize| len * index / count..len * (index + 1) / count;
        let (range, panels) = (part(count, task % bands, bands), part(panels, task / bands, groups));
        dispatch(Band { x, weight, squares, range, panels, c, epilogue });
    });
}

/// Some squares, and some channels of their outputs.
struct Band<'a> {
    x: &'a [f32],
    weight: &'a Transformed,
    squares: Squares<'a>,
    range: Range<usize>,
    panels: Range<usize>,
    c: Target,
    epilogue: &'a Epilogue<'a>,
}

impl Task for Band<'_> {
    #[inline(always)]
    unsafe fn run<K: Kernel>(self) {
        let (inner, out) = (self.weight.in_channels, self.weight.out_channels);
        let first = self.panels.start * PANEL;
        let (count, columns) = (self.range.len(), out.min(self.panels.end * PANEL) - first);
        let mut points = Scratch::take(POINTS * count * inner);
        self.transform(&mut points);
        let mut products = Scratch::take(POINTS * count * columns);
        for point in 0..POINTS {
            let rows = MatRef::new(&points[point * count * inner..][..count * inner], count, inner);
            let start = products[point * count * columns..].as_mut_ptr().wrapping_sub(first);
            let target = Target { start: SendPtr(start), stride: columns };
            let (panels, plain) = (self.panels.clone(), Epilogue::default());
            // SAFETY: the product of all rows with these panels has its place in `products`.
            unsafe { multiply::<K, _>(&rows, 0..count, self.weight.panels(point), panels, target, &plain) };
        }
        let stage = Stage { accumulate: self.epilogue.accumulate, finish: true, epilogue: self.epilogue };
        let (mut half, mut pixels) = (Scratch::take(8 * columns), Scratch::take(4 * columns));
        for index in 0..count {
            let point = |i: usize| &products[(i * count + index) * columns..][..columns];
            transform_back(point, columns, &mut half, &mut pixels);
            let [image, top, left] = self.squares.place(self.range.start + index);
            let ConvShape { height, width, .. } = *self.squares.shape;
            for (i, values) in pixels.chunks_exact(columns).enumerate() {
                let (row, column) = (top + i / 2, left + i % 2);
                if row < height && column < width {
                    let pixel = (image * height + row) * width + column;
                    // SAFETY: these channels of a pixel of the output, which are this task's.
                    unsafe { stage.store_row::<K>(values, pixel, first, self.c) };
                }
            }
        }
    }
}

impl Band<'_> {
    /// `points [16, squares, in]` of the input squares.
    #[inline(always)]
    fn transform(&self, points: &mut [f32]) {
        let &ConvShape { height, width, in_channels, .. } = self.squares.shape;
        let (zeros, mut half) = (vec![0.0; in_channels], Scratch::take(POINTS * in_channels));
        let plane = self.range.len() * in_channels;
        for index in 0..self.range.len() {
            let [image, top, left] = self.squares.place(self.range.start + index);
            let pixel = |row: usize, column: usize| {
                // One less is where the border is; what wraps around lies beyond every image.
                let (row, column) = ((top + row).wrapping_sub(1), (left + column).wrapping_sub(1));
                match row < height && column < width {
                    true => &self.x[((image * height + row) * width + column) * in_channels..][..in_channels],
                    false => &zeros[..],
                }
            };
            for column in 0..4 {
                let d = [0, 1, 2, 3].map(|row| pixel(row, column));
                let out = |row: usize| (row * 4 + column) * in_channels;
                subtract(d[0], d[2], &mut half[out(0)..][..in_channels]);
                add(d[1], d[2], &mut half[out(1)..][..in_channels]);
                subtract(d[2], d[1], &mut half[out(2)..][..in_channels]);
                subtract(d[1], d[3], &mut half[out(3)..][..in_channels]);
            }
            for row in 0..4 {
                let d = [0, 1, 2, 3].map(|column| &half[(row * 4 + column) * in_channels..][..in_channels]);
                let out = |column: usize| (row * 4 + column) * plane + index * in_channels;
                subtract(d[0], d[2], &mut points[out(0)..][..in_channels]);
                add(d[1], d[2], &mut points[out(1)..][..in_channels]);
                subtract(d[2], d[1], &mut points[out(2)..][..in_channels]);
                subtract(d[1], d[3], &mut points[out(3)..][..in_channels]);
            }
        }
    }
}

/// Two by two pixels of `len` channels from the 16 points of a square; `half` has room for eight.
#[inline(always)]
fn transform_back<'a>(point: impl Fn(usize) -> &'a [f32], len: usize, half: &mut [f32], pixels: &mut [f32]) {
    for column in 0..4 {
        let m = [0, 1, 2, 3].map(|row| point(row * 4 + column));
        add_three(m[0], m[1], m[2], &mut half[column * len..][..len]);
        subtract_two(m[1], m[2], m[3], &mut half[(4 + column) * len..][..len]);
    }
    for row in 0..2 {
        let m = [0, 1, 2, 3].map(|column| &half[(row * 4 + column) * len..][..len]);
        add_three(m[0], m[1], m[2], &mut pixels[2 * row * len..][..len]);
        subtract_two(m[1], m[2], m[3], &mut pixels[(2 * row + 1) * len..][..len]);
    }
}

#[inline(always)]
fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a + b;
    }
}

#[inline(always)]
fn subtract(a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a - b;
    }
}

#[inline(always)]
fn add_three(a: &[f32], b: &[f32], c: &[f32], out: &mut [f32]) {
    for (((out, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
        *out = a + b + c;
    }
}

/// `a - b - c`.
#[inline(always)]
fn subtract_two(a: &[f32], b: &[f32], c: &[f32], out: &mut [f32]) {
    for (((out, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
        *out = a - b - c;
    }
}
