//! Matrix products against their definition, on every instruction set.

mod common;

use common::{SIZES, assert_close, for_each_isa, noise, to_f64};
use tuwen_kernels::{Activation, Epilogue, MatRef, PackedB, gemm, matmul, reference};

fn transposed(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..x.len()).map(|i| x[i % rows * cols + i / rows]).collect()
}

/// Every second element of rows twice as long: a matrix whose neighbours are apart in both directions.
fn spread(x: &[f32]) -> Vec<f32> {
    x.iter().flat_map(|&v| [v, f32::NAN]).collect()
}

#[test]
fn products_of_all_sizes_and_strides() {
    for_each_isa(|isa| {
        for (m, k, n) in SIZES.iter().flat_map(|&m| SIZES.iter().flat_map(move |&k| SIZES.map(|n| (m, k, n))))
        {
            let (a, b) = (noise(m * k, 1), noise(k * n, 2));
            let expected = reference::gemm(&to_f64(&a), &to_f64(&b), m, k, n);
            let (a_t, b_t) = (transposed(&a, m, k), transposed(&b, k, n));
            let (a_s, b_s) = (spread(&a), spread(&b));
            let apart =
                |data, rows, cols: usize| MatRef { data, rows, cols, row_stride: 2 * cols, col_stride: 2 };
            let lefts = [MatRef::new(&a, m, k), MatRef::new(&a_t, k, m).t(), apart(&a_s, m, k)];
            let rights = [MatRef::new(&b, k, n), MatRef::new(&b_t, n, k).t(), apart(&b_s, k, n)];
            for (form, (a, b)) in lefts.into_iter().zip(rights).enumerate() {
                let what = format!("{isa:?} {m}x{k}x{n} form {form}");
                let mut c = vec![f32::NAN; m * n];
                gemm(a, &PackedB::pack(b), &mut c, &Epilogue::default());
                assert_close(&c, &expected, 2e-5, &what);
                c.fill(f32::NAN);
                matmul(a, b, &mut c, &Epilogue::default());
                assert_close(&c, &expected, 2e-5, &what);
            }
        }
    });
}

#[test]
fn long_sums_are_split_along_the_depth_or_the_columns() {
    for_each_isa(|isa| {
        for (m, k, n) in [(16, 5000, 16), (3, 2049, 33), (65, 8193, 257), (1, 4096, 1), (70, 2500, 600)] {
            let (a_t, b, c_before) = (noise(k * m, 3), noise(k * n, 4), noise(m * n, 5));
            let bias = noise(n, 6);
            let epilogue = Epilogue {
                bias: Some(&bias),
                activation: Activation::Relu,
                accumulate: true,
                ..Epilogue::default()
            };
            let a = transposed(&a_t, k, m);
            let product = reference::gemm(&to_f64(&a), &to_f64(&b), m, k, n);
            let expected = reference::epilogue(&product, n, &to_f64(&c_before), &epilogue);
            let mut c = c_before.clone();
            matmul(MatRef::new(&a_t, k, m).t(), MatRef::new(&b, k, n), &mut c, &epilogue);
            assert_close(&c, &expected, 1e-4, &format!("{isa:?} {m}x{k}x{n}"));
        }
    });
}

#[test]
fn epilogues() {
    for_each_isa(|isa| {
        for (m, k, n) in [(5, 0, 7), (1, 1, 1), (29, 1000, 40), (64, 65, 257), (33, 1600, 16)] {
            let (a, b) = (noise(m * k, 1), noise(k * n, 2));
            let (bias, residual, before) = (noise(n, 3), noise(m * n, 4), noise(m * n, 5));
            let product = reference::gemm(&to_f64(&a), &to_f64(&b), m, k, n);
            let packed = PackedB::pack(MatRef::new(&b, k, n));
            for case in 0..40 {
                let activation = [
                    Activation::Identity,
                    Activation::Relu,
                    Activation::Gelu,
                    Activation::QuickGelu,
                    Activation::Silu,
                ][case / 8];
                let epilogue = Epilogue {
                    bias: (case & 1 == 0).then_some(&bias),
                    activation,
                    residual: (case & 2 == 0).then_some(&residual),
                    residual_first: case & 4 == 0,
                    accumulate: case % 3 == 0,
                };
                let expected = reference::epilogue(&product, n, &to_f64(&before), &epilogue);
                let mut c = before.clone();
                gemm(MatRef::new(&a, m, k), &packed, &mut c, &epilogue);
                assert_close(&c, &expected, 2e-5, &format!("{isa:?} {m}x{k}x{n} {epilogue:?}"));
            }
        }
    });
}

#[test]
#[should_panic(expected = "gemm: a is [2, 3], b is [4, 5]")]
fn operands_that_do_not_fit_are_refused() {
    let b = PackedB::pack(MatRef::new(&[0.0; 20], 4, 5));
    gemm(MatRef::new(&[0.0; 6], 2, 3), &b, &mut [0.0; 10], &Epilogue::default());
}

#[test]
#[should_panic(expected = "does not fit in 6 elements")]
fn a_matrix_larger_than_its_data_is_refused() {
    let a = MatRef { rows: 3, ..MatRef::new(&[0.0; 6], 2, 3) };
    let b = PackedB::pack(MatRef::new(&[0.0; 3], 3, 1));
    gemm(a, &b, &mut [0.0; 3], &Epilogue::default());
}
