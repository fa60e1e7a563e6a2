//! Two-dimensional convolution of images `[batch, height, width, channels]`.

use crate::gemm::{Epilogue, MatRef, PackedB, gemm};

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
}

/// A convolution weight, laid out for the kernels.
#[derive(Debug)]
pub struct PackedConv {
    weight: PackedB,
}

impl PackedConv {
    /// Packs `weight [out, in, kernel, kernel]`.
    pub fn pack(weight: &[f32], shape: &ConvShape) -> Self {
        let (k, i, o) = (shape.kernel, shape.in_channels, shape.out_channels);
        assert_eq!(weight.len(), o * i * k * k, "PackedConv: the weight is not [{o}, {i}, {k}, {k}]");
        let mut reordered = vec![0.0; weight.len()];
        crate::permute(weight, &[o, i, k, k], &[2, 3, 1, 0], &mut reordered);
        Self { weight: PackedB::pack(MatRef::new(&reordered, shape.window(), o)) }
    }
}

fn im2col(x: &[f32], shape: &ConvShape) -> Vec<f32> {
    let mut columns = vec![0.0; shape.out_pixels() * shape.window()];
    for_each_tap(shape, |pixel, source, target| {
        columns[pixel * shape.window() + target..][..shape.in_channels]
            .copy_from_slice(&x[source..][..shape.in_channels]);
    });
    columns
}

fn for_each_tap(shape: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let (oh, ow) = (shape.out_height(), shape.out_width());
    for pixel in 0..shape.out_pixels() {
        let (image, row, column) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
        for ky in 0..shape.kernel {
            for kx in 0..shape.kernel {
                let (y, x) = (row * shape.stride + ky, column * shape.stride + kx);
                if y < shape.padding || x < shape.padding {
                    continue;
                }
                let (y, x) = (y - shape.padding, x - shape.padding);
                if y < shape.height && x < shape.width {
                    let source = ((image * shape.height + y) * shape.width + x) * shape.in_channels;
                    f(pixel, source, (ky * shape.kernel + kx) * shape.in_channels);
                }
            }
        }
    }
}

/// Convolution of `x` with a packed weight, then the epilogue.
pub fn conv2d(x: &[f32], weight: &PackedConv, shape: &ConvShape, y: &mut [f32], epilogue: &Epilogue) {
    let columns = im2col(x, shape);
    gemm(MatRef::new(&columns, shape.out_pixels(), shape.window()), &weight.weight, y, epilogue);
}

/// Gradient of [`conv2d`] with respect to its input; `dx` is overwritten.
pub fn conv2d_backward_input(dy: &[f32], weight: &[f32], shape: &ConvShape, dx: &mut [f32]) {
    let (k, i, o) = (shape.kernel, shape.in_channels, shape.out_channels);
    let mut reordered = vec![0.0; weight.len()];
    crate::permute(weight, &[o, i, k, k], &[0, 2, 3, 1], &mut reordered);
    let mut columns = vec![0.0; shape.out_pixels() * shape.window()];
    let b = PackedB::pack(MatRef::new(&reordered, o, shape.window()));
    gemm(MatRef::new(dy, shape.out_pixels(), o), &b, &mut columns, &Epilogue::default());
    dx.fill(0.0);
    for_each_tap(shape, |pixel, source, target| {
        let column = &columns[pixel * shape.window() + target..][..i];
        dx[source..][..i].iter_mut().zip(column).for_each(|(dx, c)| *dx += c);
    });
}

/// Gradient of [`conv2d`] with respect to its weight `[out, in, kernel, kernel]`; `dweight` is overwritten.
pub fn conv2d_backward_weight(x: &[f32], dy: &[f32], shape: &ConvShape, dweight: &mut [f32]) {
    let (k, i, o) = (shape.kernel, shape.in_channels, shape.out_channels);
    let columns = im2col(x, shape);
    let mut gradient = vec![0.0; dweight.len()];
    let b = PackedB::pack(MatRef::new(&columns, shape.out_pixels(), shape.window()));
    gemm(MatRef::new(dy, shape.out_pixels(), o).t(), &b, &mut gradient, &Epilogue::default());
    crate::permute(&gradient, &[o, k, k, i], &[0, 3, 1, 2], dweight);
}
