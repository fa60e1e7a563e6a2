//! Convolution against its definition and its gradients against finite differences, on every instruction set.

mod common;

use common::{SIZES, assert_close, assert_gradient, for_each_isa, noise, to_f64};
use tuwen_kernels::{
    Activation, ConvShape, Epilogue, PackedConv, Precision, conv2d, conv2d_backward_input,
    conv2d_backward_weight, reference,
};

/// Convolutions of all kinds: pointwise, padded, strided, patches, windows wider than the image, nothing at all.
fn shapes() -> Vec<ConvShape> {
    let shape = |batch, (height, width), (in_channels, out_channels), kernel, stride, padding| ConvShape {
        batch,
        height,
        width,
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
    };
    let channels = SIZES.into_iter().flat_map(|channels| [(channels, 3), (3, channels)]);
    let widths = SIZES.map(|width| shape(1, (3, width), (2, 5), 3, 1, 1));
    let kinds = [
        shape(2, (5, 7), (3, 4), 1, 1, 0),
        shape(2, (5, 7), (3, 17), 3, 1, 1),
        shape(1, (8, 6), (16, 33), 3, 1, 1),
        shape(3, (9, 8), (3, 16), 3, 2, 1),
        shape(2, (12, 8), (3, 65), 4, 4, 0),
        shape(2, (7, 5), (5, 3), 3, 1, 0),
        shape(1, (7, 5), (2, 3), 3, 1, 2),
        shape(1, (2, 2), (40, 36), 3, 1, 1),
        shape(1, (1, 1), (7, 5), 5, 1, 2),
        shape(1, (4, 4), (2, 3), 1, 1, 1),
        shape(1, (6, 5), (4, 3), 2, 3, 1),
        shape(1, (5, 5), (2, 2), 1, 2, 0),
        shape(1, (4, 6), (3, 2), 5, 2, 3),
        shape(0, (5, 5), (3, 4), 3, 1, 1),
        shape(1, (2, 2), (3, 4), 3, 1, 0),
        shape(1, (2, 2), (3, 4), 3, 2, 0),
        shape(9, (20, 20), (9, 16), 3, 1, 1),
        shape(3, (9, 11), (17, 40), 3, 1, 1),
        shape(2, (1, 3), (33, 16), 3, 1, 1),
        shape(3, (6, 5), (20, 97), 3, 1, 1),
    ];
    kinds
        .into_iter()
        .chain(channels.map(|channels| shape(1, (4, 5), channels, 3, 1, 1)))
        .chain(widths)
        .collect()
}

fn lengths(s: &ConvShape) -> (usize, usize, usize) {
    let input = s.batch * s.height * s.width * s.in_channels;
    let output = s.batch * s.out_height() * s.out_width() * s.out_channels;
    (input, s.out_channels * s.in_channels * s.kernel * s.kernel, output)
}

#[test]
fn forward() {
    for_each_isa(|isa| {
        for shape in shapes() {
            let (input, weights, output) = lengths(&shape);
            let (x, weight) = (noise(input, 1), noise(weights, 2));
            let (bias, residual) = (noise(shape.out_channels, 3), noise(output, 4));
            let packed = PackedConv::pack(&weight, &shape, Precision::F32);
            let plain = reference::conv2d(&to_f64(&x), &to_f64(&weight), &shape);
            let mut y = vec![f32::NAN; output];
            conv2d(&x, &packed, &shape, &mut y, &Epilogue::default());
            // Rounding grows with the terms of a sum.
            let terms = shape.kernel * shape.kernel * shape.in_channels;
            let tolerance = 1e-5 * (terms as f64 / 500.0).max(1.0);
            assert_close(&y, &plain, tolerance, &format!("{isa:?} {shape:?}"));

            let epilogue = Epilogue {
                bias: Some(&bias),
                activation: Activation::Relu,
                residual: Some(&residual),
                residual_first: true,
                accumulate: false,
            };
            let expected = reference::epilogue(&plain, shape.out_channels, &[], &epilogue);
            conv2d(&x, &packed, &shape, &mut y, &epilogue);
            assert_close(&y, &expected, tolerance, &format!("{isa:?} {shape:?} with epilogue"));
        }
    });
}

#[test]
fn gradients() {
    for_each_isa(|isa| {
        for shape in shapes() {
            let (input, weights, output) = lengths(&shape);
            let (x, weight, dy) = (noise(input, 1), noise(weights, 2), noise(output, 3));
            let (mut dx, mut dweight) = (vec![f32::NAN; input], vec![f32::NAN; weights]);
            conv2d_backward_input(&dy, &weight, &shape, &mut dx);
            conv2d_backward_weight(&x, &dy, &shape, &mut dweight);
            let (wide_x, wide_weight) = (to_f64(&x), to_f64(&weight));
            assert_gradient(&format!("{isa:?} dx of {shape:?}"), &x, &dy, &dx, 1e-5, |x| {
                reference::conv2d(x, &wide_weight, &shape)
            });
            assert_gradient(
                &format!("{isa:?} dweight of {shape:?}"),
                &weight,
                &dy,
                &dweight,
                1e-5,
                |weight| reference::conv2d(&wide_x, weight, &shape),
            );
        }
    });
}

/// Squares of Winograd's transform belong to one image, whatever shares its task.
#[test]
fn an_image_has_the_same_bits_in_every_batch() {
    for_each_isa(|isa| {
        let of = |batch| ConvShape {
            batch,
            height: 11,
            width: 13,
            in_channels: 32,
            out_channels: 48,
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        let (input, weights, output) = lengths(&of(7));
        let (x, weight) = (noise(input, 1), noise(weights, 2));
        let run = |x: &[f32], batch: usize| {
            let mut y = vec![f32::NAN; output / 7 * batch];
            let packed = PackedConv::pack(&weight, &of(batch), Precision::F32);
            conv2d(x, &packed, &of(batch), &mut y, &Epilogue::default());
            y
        };
        let together = run(&x, 7);
        for image in [0, 3, 6] {
            let alone = run(&x[image * input / 7..][..input / 7], 1);
            assert_eq!(alone, together[image * output / 7..][..output / 7], "{isa:?} image {image}");
        }
    });
}
