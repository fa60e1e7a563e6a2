//! Products of less than single precision against their definition, on every instruction set.

mod common;

use common::{SIZES, assert_close, for_each_isa, noise, to_f64};
use tuwen_kernels::{
    Activation, ConvShape, Epilogue, MatRef, PackedB, PackedConv, Precision, conv2d, gemm, has_fast,
    matmul_as, reference,
};

/// Sizes along the depth: besides the awkward ones, around steps of 32 and 64 numbers, and deep.
const DEPTHS: [usize; 9] = [0, 1, 3, 31, 33, 64, 65, 257, 1000];

/// The product that the definition gives; where panels are turned back into f32, the left operand is not rounded.
fn expected(precision: Precision, a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) -> Vec<f64> {
    match (precision, has_fast(precision)) {
        (Precision::Bf16, true) => reference::gemm_bf16(a, b, m, k, n),
        (Precision::Int8, true) => reference::gemm_int8(a, b, m, k, n),
        (Precision::Bf16, false) => {
            let b: Vec<f64> = b.iter().map(|&b| reference::round_to_bf16(b)).collect();
            reference::gemm(&to_f64(a), &b, m, k, n)
        }
        (Precision::Int8, false) => {
            reference::gemm(&to_f64(a), &reference::round_columns_to_int8(b, k, n), m, k, n)
        }
        (Precision::F32, _) => reference::gemm(&to_f64(a), &to_f64(b), m, k, n),
    }
}

fn transposed(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..x.len()).map(|i| x[i % rows * cols + i / rows]).collect()
}

/// Every second element of rows twice as long.
fn spread(x: &[f32]) -> Vec<f32> {
    x.iter().flat_map(|&v| [v, f32::NAN]).collect()
}

#[test]
fn products_of_all_sizes_and_strides() {
    for_each_isa(|isa| {
        for (m, k, n) in
            SIZES.iter().flat_map(|&m| DEPTHS.iter().flat_map(move |&k| SIZES.map(|n| (m, k, n))))
        {
            if m * k * n > 400_000 {
                continue;
            }
            // Not around zero, so that the zero of a row matters.
            let a: Vec<f32> = noise(m * k, 1).iter().map(|x| x + 0.6).collect();
            let b = noise(k * n, 2);
            let (a_t, b_t) = (transposed(&a, m, k), transposed(&b, k, n));
            let (a_s, b_s) = (spread(&a), spread(&b));
            let apart =
                |data, rows, cols: usize| MatRef { data, rows, cols, row_stride: 2 * cols, col_stride: 2 };
            let lefts = [MatRef::new(&a, m, k), MatRef::new(&a_t, k, m).t(), apart(&a_s, m, k)];
            let rights = [MatRef::new(&b, k, n), MatRef::new(&b_t, n, k).t(), apart(&b_s, k, n)];
            for precision in Precision::ALL {
                let wanted = expected(precision, &a, &b, [m, k, n]);
                for (form, (a, b)) in lefts.into_iter().zip(rights).enumerate() {
                    let what = format!("{isa:?} {precision} {m}x{k}x{n} form {form}");
                    let mut c = vec![f32::NAN; m * n];
                    gemm(a, &PackedB::pack_as(b, precision), &mut c, &Epilogue::default());
                    assert_close(&c, &wanted, 1e-4, &what);
                }
            }
        }
    });
}

#[test]
fn a_product_of_matrices_that_are_used_once() {
    for_each_isa(|isa| {
        for (m, k, n) in [(5, 0, 7), (1, 1, 1), (65, 33, 40), (64, 3000, 33), (300, 257, 70)] {
            let (a_t, b) = (noise(m * k, 1), noise(k * n, 2));
            let a = transposed(&a_t, k, m);
            for precision in [Precision::Bf16, Precision::Int8] {
                let wanted = match has_fast(Precision::Bf16) {
                    true => reference::gemm_bf16(&a, &b, m, k, n),
                    false => reference::gemm(&to_f64(&a), &to_f64(&b), m, k, n),
                };
                let mut c = vec![f32::NAN; m * n];
                let left = MatRef::new(&a_t, k, m).t();
                matmul_as(precision, left, MatRef::new(&b, k, n), &mut c, &Epilogue::default());
                assert_close(&c, &wanted, 1e-4, &format!("{isa:?} {m}x{k}x{n}"));
            }
        }
    });
}

#[test]
fn epilogues() {
    for_each_isa(|isa| {
        let (m, k, n) = (45, 100, 75);
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        let (bias, residual, before) = (noise(n, 3), noise(m * n, 4), noise(m * n, 5));
        for precision in [Precision::Bf16, Precision::Int8] {
            let product = expected(precision, &a, &b, [m, k, n]);
            let packed = PackedB::pack_as(MatRef::new(&b, k, n), precision);
            for residual_first in [false, true] {
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    activation: Activation::QuickGelu,
                    residual: Some(&residual),
                    residual_first,
                    accumulate: true,
                };
                let wanted: Vec<f64> = (0..m * n)
                    .map(|i| {
                        let v = product[i] + f64::from(before[i]) + f64::from(bias[i % n]);
                        let residual = f64::from(residual[i]);
                        let (inside, outside) =
                            if residual_first { (residual, 0.0) } else { (0.0, residual) };
                        reference::activate(Activation::QuickGelu, v + inside) + outside
                    })
                    .collect();
                let mut c = before.clone();
                gemm(MatRef::new(&a, m, k), &packed, &mut c, &epilogue);
                assert_close(&c, &wanted, 1e-4, &format!("{isa:?} {precision} {epilogue:?}"));
            }
        }
    });
}

#[test]
fn rows_do_not_depend_on_their_neighbours() {
    for_each_isa(|isa| {
        let (m, k, n) = (257, 768, 70);
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        for precision in [Precision::Bf16, Precision::Int8] {
            let packed = PackedB::pack_as(MatRef::new(&b, k, n), precision);
            let product = |rows: &[f32]| {
                let mut c = vec![0.0; rows.len() / k * n];
                gemm(MatRef::new(rows, rows.len() / k, k), &packed, &mut c, &Epilogue::default());
                c
            };
            let together = product(&a);
            for (first, count) in [(0, 1), (3, 15), (17, 33), (200, 57)] {
                let alone = product(&a[first * k..][..count * k]);
                assert_eq!(alone, together[first * n..][..count * n], "{isa:?} {precision} {first}");
            }
        }
    });
}

#[test]
fn convolutions() {
    for_each_isa(|isa| {
        for (kernel, stride, padding) in [(1, 1, 0), (3, 1, 1), (3, 2, 1)] {
            let shape = ConvShape {
                batch: 2,
                height: 9,
                width: 7,
                in_channels: 5,
                out_channels: 35,
                kernel,
                stride,
                padding,
            };
            let x = noise(2 * 9 * 7 * 5, 1);
            let weight = noise(35 * 5 * kernel * kernel, 2);
            let len = 2 * shape.out_height() * shape.out_width() * 35;
            for (precision, tolerance) in [(Precision::Bf16, 0.03), (Precision::Int8, 0.06)] {
                let mut y = vec![f32::NAN; len];
                let packed = PackedConv::pack(&weight, &shape, precision);
                conv2d(&x, &packed, &shape, &mut y, &Epilogue::default());
                let exact = reference::conv2d(&to_f64(&x), &to_f64(&weight), &shape);
                assert_close(&y, &exact, tolerance, &format!("{isa:?} {precision} {shape:?}"));
            }
        }
    });
}
