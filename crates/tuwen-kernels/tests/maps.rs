//! Feature maps in bf16 against the definitions of what is computed with them.

mod common;

use common::{assert_close, noise, to_f64};
use tuwen_kernels::{
    Activation, ConvShape, Epilogue, Isa, MapEpilogue, MapShape, PackedConv, Precision, conv_maps,
    conv_to_maps, conv2d, isa, maps_of, numbers_of, permute, pool_maps, reference,
};

/// bf16 numbers have eight significant bits.
const ROUNDING: f64 = 1.0 / 256.0;

#[allow(clippy::print_stderr)] // says what was not tested
fn have_maps() -> bool {
    let have = isa() == Isa::Amx;
    if !have {
        eprintln!("skipped: no AMX");
    }
    have
}

fn rounded(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&x| reference::round_to_bf16(x) as f32).collect()
}

fn maps(x: &[f32], shape: &MapShape) -> Vec<f32> {
    let mut maps = vec![f32::NAN; shape.stored()];
    maps_of(x, shape, &mut maps);
    maps
}

fn numbers(maps: &[f32], shape: &MapShape) -> Vec<f32> {
    let mut x = vec![f32::NAN; shape.len()];
    numbers_of(maps, shape, &mut x);
    x
}

fn sizes() -> Vec<MapShape> {
    let shape = |batch, height, width, channels| MapShape { batch, height, width, channels, exact: false };
    vec![
        shape(1, 1, 1, 32),
        shape(2, 3, 2, 64),
        shape(1, 7, 7, 96),
        shape(3, 5, 8, 32),
        shape(1, 31, 33, 64),
        shape(16, 7, 7, 64),
        shape(2, 64, 63, 64),
    ]
}

fn convolution(from: &MapShape, out_channels: usize, kernel: usize) -> ConvShape {
    let &MapShape { batch, height, width, channels: in_channels, .. } = from;
    ConvShape { batch, height, width, in_channels, out_channels, kernel, stride: 1, padding: kernel / 2 }
}

#[test]
fn maps_hold_rounded_numbers() {
    if !have_maps() {
        return;
    }
    for shape in sizes() {
        let x = noise(shape.len(), 1);
        assert_eq!(numbers(&maps(&x, &shape), &shape), rounded(&x), "{shape:?}");
    }
}

#[test]
fn convolutions() {
    if !have_maps() {
        return;
    }
    for (from, out_channels, kernel) in sizes().iter().flat_map(|s| [(s, 32, 3), (s, 96, 1), (s, 64, 3)]) {
        let shape = convolution(from, out_channels, kernel);
        let to = MapShape { channels: out_channels, ..*from };
        let (x, bias) = (rounded(&noise(from.len(), 1)), noise(out_channels, 3));
        let weight = rounded(&noise(out_channels * from.channels * kernel * kernel, 2));
        let residual = rounded(&noise(to.len(), 4));
        let packed = PackedConv::pack(&weight, &shape, Precision::Bf16);
        let run = |epilogue: &MapEpilogue| {
            let mut y = vec![f32::NAN; to.stored()];
            conv_maps(&maps(&x, from), &packed, &shape, false, epilogue, &mut y);
            y
        };
        let plain = reference::conv2d(&to_f64(&x), &to_f64(&weight), &shape);
        let what = format!("{shape:?}");
        assert_close(&numbers(&run(&MapEpilogue::default()), &to), &plain, ROUNDING, &what);

        let residual_maps = maps(&residual, &to);
        let y = run(&MapEpilogue { bias: Some(&bias), residual: Some(&residual_maps), relu: true });
        let epilogue = Epilogue {
            bias: Some(&bias),
            activation: tuwen_kernels::Activation::Relu,
            residual: Some(&residual),
            residual_first: true,
            accumulate: false,
        };
        let expected = reference::epilogue(&plain, out_channels, &[], &epilogue);
        assert_close(&numbers(&y, &to), &expected, ROUNDING, &format!("{what} with epilogue"));
        // The borders are zero again: the same numbers, put into maps, are the same memory.
        let end = (to.stored() / (out_channels / 2) - 32 - (to.width + 2)) * out_channels / 2;
        assert_eq!(y[..end], maps(&numbers(&y, &to), &to)[..end], "{what}: borders");
    }
}

#[test]
fn a_result_does_not_depend_on_the_batch() {
    if !have_maps() {
        return;
    }
    let one = MapShape { batch: 1, height: 14, width: 14, channels: 64, exact: false };
    let all = MapShape { batch: 5, ..one };
    let (x, weight) = (noise(all.len(), 1), noise(64 * 64 * 9, 2));
    let run = |x: &[f32], from: &MapShape| {
        let shape = convolution(from, 64, 3);
        let packed = PackedConv::pack(&weight, &shape, Precision::Bf16);
        let mut y = vec![f32::NAN; from.stored()];
        conv_maps(&maps(x, from), &packed, &shape, false, &MapEpilogue::default(), &mut y);
        numbers(&y, from)
    };
    let together = run(&x, &all);
    for image in 0..all.batch {
        let range = image * one.len()..(image + 1) * one.len();
        assert_eq!(run(&x[range.clone()], &one), together[range]);
    }
    // And it is what the convolution of f32 images in bf16 gives, but for the rounding of the result.
    let shape = convolution(&all, 64, 3);
    let mut y = vec![0.0; all.len()];
    let packed = PackedConv::pack(&weight, &shape, Precision::Bf16);
    conv2d(&x, &packed, &shape, &mut y, &Epilogue::default());
    assert_close(&together, &to_f64(&y), ROUNDING, "conv2d");
}

#[test]
fn means_of_squares() {
    if !have_maps() {
        return;
    }
    for shape in sizes().into_iter().filter(|s| s.height > 1 && s.width > 1) {
        let pooled = shape.halved();
        let x = rounded(&noise(shape.len(), 1));
        let mut y = vec![f32::NAN; pooled.stored()];
        pool_maps(&maps(&x, &shape), &shape, &mut y);
        let MapShape { batch, height, width, channels, .. } = shape;
        let expected = reference::avg_pool2d(&to_f64(&x), batch, height, width, channels, 2);
        assert_close(&numbers(&y, &pooled), &expected, ROUNDING, &format!("{shape:?}"));
    }
}

#[test]
fn exact_maps() {
    if !have_maps() {
        return;
    }
    for from in sizes().into_iter().map(|shape| MapShape { exact: true, ..shape }) {
        let x = noise(from.len(), 1);
        assert_close(&numbers(&maps(&x, &from), &from), &to_f64(&x), 1e-5, &format!("{from:?}"));
        let mut pooled = vec![f32::NAN; from.halved().stored()];
        if from.height > 1 && from.width > 1 {
            pool_maps(&maps(&x, &from), &from, &mut pooled);
            let MapShape { batch, height, width, channels, .. } = from;
            let expected = reference::avg_pool2d(&to_f64(&x), batch, height, width, channels, 2);
            assert_close(
                &numbers(&pooled, &from.halved()),
                &expected,
                ROUNDING,
                &format!("{from:?}, pooled"),
            );
        }
        for (out_channels, kernel) in [(32, 3), (96, 1)] {
            let shape = convolution(&from, out_channels, kernel);
            let to = MapShape { channels: out_channels, ..from };
            let weight = noise(out_channels * from.channels * kernel * kernel, 2);
            let (bias, residual) = (noise(out_channels, 3), noise(to.len(), 4));
            let packed = PackedConv::pack(&weight, &shape, Precision::F32);
            let epilogue =
                MapEpilogue { bias: Some(&bias), residual: Some(&maps(&residual, &to)), relu: false };
            let mut y = vec![f32::NAN; to.stored()];
            conv_maps(&maps(&x, &from), &packed, &shape, true, &epilogue, &mut y);
            let plain = reference::conv2d(&to_f64(&x), &to_f64(&weight), &shape);
            let epilogue = Epilogue { bias: Some(&bias), residual: Some(&residual), ..Epilogue::default() };
            let expected = reference::epilogue(&plain, out_channels, &[], &epilogue);
            // What is left out of each term of a sum is at random.
            let terms = (from.channels * kernel * kernel) as f64;
            assert_close(&numbers(&y, &to), &expected, 1e-5 * terms.sqrt(), &format!("{shape:?}"));
        }
    }
}

/// Numbers as ReLU leaves them, of images that differ in size; the second image is nothing.
fn images_after_relu(shape: &MapShape) -> Vec<f32> {
    let mut x = rounded(&noise(shape.len(), 1));
    for (image, x) in x.chunks_exact_mut(shape.len() / shape.batch).enumerate() {
        let size = [1.0, 0.0, 0.125, 4.0][image % 4];
        x.iter_mut().for_each(|x| *x = size * x.max(0.0));
    }
    x
}

#[test]
fn convolutions_in_int8() {
    if !have_maps() {
        return;
    }
    let sizes = sizes().into_iter().filter(|shape| shape.channels == 64);
    for (from, (channels, out_channels, kernel)) in
        sizes.flat_map(|s| [(64, 32, 3), (64, 96, 3), (256, 256, 1)].map(|c| (s, c)))
    {
        let from = MapShape { channels, ..from };
        let shape = convolution(&from, out_channels, kernel);
        let to = MapShape { channels: out_channels, ..from };
        let (x, window) = (images_after_relu(&from), from.channels * kernel * kernel);
        let weight = noise(out_channels * window, 2);
        let packed = PackedConv::pack(&weight, &shape, Precision::Int8);
        let (bias, residual) = (noise(out_channels, 3), maps(&noise(to.len(), 4), &to));
        let epilogue = MapEpilogue { bias: Some(&bias), residual: Some(&residual), relu: true };
        let mut y = vec![f32::NAN; to.stored()];
        conv_maps(&maps(&x, &from), &packed, &shape, false, &epilogue, &mut y);

        let sharing = if kernel == 1 { from.channels } else { from.len() / from.batch };
        let bytes: Vec<f64> = x.chunks_exact(sharing).flat_map(reference::round_to_bytes).collect();
        let row_to_int8 = |row| reference::round_columns_to_int8(row, window, 1);
        let rounded_weight: Vec<f64> = weight.chunks_exact(window).flat_map(row_to_int8).collect();
        let epilogue = Epilogue {
            bias: Some(&bias),
            activation: tuwen_kernels::Activation::Relu,
            residual: Some(&numbers(&residual, &to)),
            residual_first: true,
            accumulate: false,
        };
        let plain = reference::conv2d(&bytes, &rounded_weight, &shape);
        let expected = reference::epilogue(&plain, out_channels, &[], &epilogue);
        assert_close(&numbers(&y, &to), &expected, ROUNDING, &format!("{shape:?}"));
    }
}

#[test]
fn a_result_in_int8_does_not_depend_on_the_batch() {
    if !have_maps() {
        return;
    }
    for (side, channels, out_channels, kernel) in [(14, 64, 64, 3), (7, 320, 256, 1), (40, 64, 32, 3)] {
        let one = MapShape { batch: 1, height: side, width: side, channels, exact: false };
        let all = MapShape { batch: 5, ..one };
        let (x, weight) = (images_after_relu(&all), noise(out_channels * channels * kernel * kernel, 2));
        let run = |x: &[f32], from: &MapShape| {
            let shape = convolution(from, out_channels, kernel);
            let to = MapShape { channels: out_channels, ..*from };
            let packed = PackedConv::pack(&weight, &shape, Precision::Int8);
            let mut y = vec![f32::NAN; to.stored()];
            conv_maps(&maps(x, from), &packed, &shape, false, &MapEpilogue::default(), &mut y);
            numbers(&y, &to)
        };
        let together = run(&x, &all);
        for (x, y) in x.chunks_exact(one.len()).zip(together.chunks_exact(together.len() / all.batch)) {
            assert_eq!(run(x, &one), y);
        }
    }
}

#[test]
fn convolutions_of_images() {
    if !have_maps() {
        return;
    }
    let shape =
        |batch, [height, width]: [usize; 2], in_channels, out_channels, [kernel, stride]: [usize; 2]| {
            let padding = kernel / 2;
            ConvShape { batch, height, width, in_channels, out_channels, kernel, stride, padding }
        };
    for shape in [
        shape(1, [1, 1], 3, 32, [3, 2]),
        shape(2, [7, 4], 3, 64, [3, 2]),
        shape(1, [33, 50], 3, 32, [3, 2]),
        shape(3, [16, 19], 1, 96, [3, 1]),
        shape(2, [9, 40], 4, 32, [5, 3]),
        shape(1, [6, 17], 3, 32, [1, 1]),
    ] {
        let (taps, pixels) = (shape.kernel * shape.kernel, shape.height * shape.width);
        let x = noise(shape.batch * shape.in_channels * pixels, 1);
        let weight = noise(shape.out_channels * shape.in_channels * taps, 2);
        let bias = noise(shape.out_channels, 3);
        let mut channels_last = vec![f32::NAN; x.len()];
        permute(&x, &[shape.batch, shape.in_channels, pixels], &[0, 2, 1], &mut channels_last);
        let plain = reference::conv2d(&to_f64(&channels_last), &to_f64(&weight), &shape);
        for (relu, exact, tolerance) in [(true, false, ROUNDING), (false, true, ROUNDING * ROUNDING)] {
            let to = MapShape::of_convolution(&shape, exact);
            let mut y = vec![f32::NAN; to.stored()];
            conv_to_maps(&x, &weight, &bias, &shape, relu, exact, &mut y);
            let activation = if relu { Activation::Relu } else { Activation::Identity };
            let epilogue = Epilogue { bias: Some(&bias), activation, ..Epilogue::default() };
            let expected = reference::epilogue(&plain, shape.out_channels, &[], &epilogue);
            assert_close(&numbers(&y, &to), &expected, tolerance, &format!("{shape:?}"));
            // The borders are zero: nothing lies where numbers with a rest would leave nothing.
            let filled = maps(&vec![1.0 + 1.0 / 512.0; to.len()], &to);
            let depth = to.channels << u32::from(exact);
            let end = (to.stored() * 2 / depth - 32 - (to.width + 2)) * depth / 2;
            let is_clear = |(&filled, &y): (&f32, &f32)| filled != 0.0 || y == 0.0;
            assert!(filled[..end].iter().zip(&y).all(is_clear), "{shape:?}: borders");
        }
    }
}
