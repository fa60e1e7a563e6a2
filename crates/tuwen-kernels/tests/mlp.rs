//! The fused MLP against its parts in double precision, and its gradients against finite differences, on every
//! instruction set.

mod common;

use common::{assert_close, assert_gradient, for_each_isa, noise, to_f64};
use tuwen_kernels::{
    Activation, Epilogue, MatRef, Mlp, MlpBackward, PackedB, Precision, gemm, mlp, mlp_backward,
    mlp_kept_len, reference,
};

const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::QuickGelu, Activation::Silu];

/// Rows, inputs, inner numbers, outputs; the last has several bands.
const SIZES: [[usize; 4]; 5] =
    [[1, 1, 1, 1], [3, 5, 7, 2], [17, 33, 65, 16], [0, 3, 4, 5], [1100, 3, 300, 2]];

/// `x · w + bias`, w `[columns of x, bias.len()]`.
fn affine(x: &[f64], w: &[f64], bias: &[f64]) -> Vec<f64> {
    let (out, inner) = (bias.len(), w.len() / bias.len());
    let dot = |row: &[f64], j: usize| row.iter().enumerate().map(|(i, x)| x * w[i * out + j]).sum::<f64>();
    x.chunks_exact(inner).flat_map(|row| (0..out).map(move |j| dot(row, j) + bias[j])).collect()
}

#[test]
fn values_and_gradients() {
    for_each_isa(|isa| {
        for [rows, width, inner, out] in SIZES {
            for activation in ACTIVATIONS {
                let what = format!("{isa:?} {activation:?} {rows} rows of {width}, {inner}, {out}");
                let (x, residual, dy) = (noise(rows * width, 1), noise(rows * out, 2), noise(rows * out, 3));
                let (w1, b1, w2, b2) =
                    (noise(width * inner, 4), noise(inner, 5), noise(inner * out, 6), noise(out, 7));
                let (wide_x, wide_w1, wide_b1) = (to_f64(&x), to_f64(&w1), to_f64(&b1));
                let (wide_w2, wide_b2) = (to_f64(&w2), to_f64(&b2));
                let activated = |x: &[f64], b1: &[f64]| -> Vec<f64> {
                    affine(x, &wide_w1, b1).iter().map(|&z| reference::activate(activation, z)).collect()
                };
                let of = |x: &[f64], b1: &[f64]| affine(&activated(x, b1), &wide_w2, &wide_b2);

                let (w1, w2) = (MatRef::new(&w1, width, inner), MatRef::new(&w2, inner, out));
                let (fc1, fc2) = (PackedB::pack(w1), PackedB::pack(w2));
                let forward = Mlp { fc1: &fc1, bias1: Some(&b1), activation, fc2: &fc2, bias2: Some(&b2) };
                let (mut z, mut y) = (vec![f32::NAN; rows * inner], vec![f32::NAN; rows * out]);
                mlp(&x, rows, &forward, Some(&residual), &mut z, &mut y);
                let mut expected = of(&wide_x, &wide_b1);
                expected.iter_mut().zip(&residual).for_each(|(y, r)| *y += f64::from(*r));
                assert_close(&y, &expected, 1e-5 * inner as f64, &what);

                let (fc1, fc2) = (PackedB::pack(w1.t()), PackedB::pack(w2.t()));
                let backward = MlpBackward { fc2: &fc2, activation, fc1: &fc1 };
                let (mut dz, mut dx) = (vec![f32::NAN; rows * inner], vec![f32::NAN; rows * width]);
                let mut dbias = vec![f32::NAN; inner];
                mlp_backward(&dy, rows, &backward, None, &mut z, &mut dz, &mut dbias, &mut dx);
                assert_close(&z, &activated(&wide_x, &wide_b1), 1e-5, &what);
                if rows <= 20 && activation != Activation::Relu {
                    let tolerance = 1e-5 * (inner * out) as f64;
                    assert_gradient(&format!("{what} dx"), &x, &dy, &dx, tolerance, |x| of(x, &wide_b1));
                    let tolerance = 1e-5 * (rows * out) as f64;
                    let bias = |b1: &[f64]| of(&wide_x, b1);
                    assert_gradient(&format!("{what} db"), &b1, &dy, &dbias, tolerance, bias);
                }
                let mut columns = vec![0.0; inner];
                dz.chunks_exact(inner).for_each(|row| {
                    columns.iter_mut().zip(row).for_each(|(sum, dz)| *sum += f64::from(*dz));
                });
                assert_close(&dbias, &columns, 1e-6 * rows as f64, &format!("{what} column sums"));
            }
        }
    });
}

/// What is kept in bf16 gives the gradients of rounded inputs of the activation.
#[test]
fn reduced_weights_keep_half() {
    for_each_isa(|isa| {
        for [rows, width, inner, out] in SIZES {
            let activation = Activation::QuickGelu;
            let what = format!("{isa:?} {rows} rows of {width}, {inner}, {out}");
            let (x, dy) = (noise(rows * width, 1), noise(rows * out, 3));
            let (w1, w2) = (noise(width * inner, 4), noise(inner * out, 6));
            let (w1, w2) = (MatRef::new(&w1, width, inner), MatRef::new(&w2, inner, out));
            let pack = |w: MatRef| PackedB::pack_as(w, Precision::Bf16);
            let (fc1, fc2) = (pack(w1), pack(w2));
            let forward = Mlp { fc1: &fc1, bias1: None, activation, fc2: &fc2, bias2: None };
            let mut kept = vec![f32::NAN; mlp_kept_len(Precision::Bf16, rows * inner)];
            assert_eq!(kept.len(), (rows * inner).div_ceil(2));
            mlp(&x, rows, &forward, None, &mut kept, &mut vec![f32::NAN; rows * out]);
            let mut z = vec![f32::NAN; rows * inner];
            gemm(MatRef::new(&x, rows, width), &fc1, &mut z, &Epilogue::default());
            let expected: Vec<f64> = to_f64(&z).iter().map(|&z| reference::activate(activation, z)).collect();

            let (fc1, fc2) = (pack(w1.t()), pack(w2.t()));
            let backward = MlpBackward { fc2: &fc2, activation, fc1: &fc1 };
            let [mut activated, mut dz, mut whole] = [0; 3].map(|_| vec![f32::NAN; rows * inner]);
            whole.copy_from_slice(&z);
            let [mut dx, mut dx_of_whole] = [0; 2].map(|_| vec![f32::NAN; rows * width]);
            let [mut dbias, mut dz_of_whole] = [inner, rows * inner].map(|len| vec![f32::NAN; len]);
            mlp_backward(&dy, rows, &backward, Some(&kept), &mut activated, &mut dz, &mut dbias, &mut dx);
            let (z, dz_of_whole) = (&mut whole, &mut dz_of_whole);
            mlp_backward(&dy, rows, &backward, None, z, dz_of_whole, &mut dbias, &mut dx_of_whole);
            // Half a unit in the last place of bf16 beside inputs of at most 4, and slopes that change by at most 1.1.
            assert_close(&activated, &expected, 1e-2, &what);
            let largest = dz_of_whole.iter().fold(0.0, |largest: f32, dz| largest.max(dz.abs()));
            assert_close(&dz, &to_f64(dz_of_whole), 2e-2 * f64::from(largest.max(1.0)), &what);
        }
    });
}
