//! Normalisation, softmax and activations against their definitions and finite differences, on every instruction set.

mod common;

use common::{SIZES, assert_close, assert_gradient, for_each_isa, noise, to_f64};
use tuwen_kernels::{
    Activation, Targets, activate, activate_backward, batch_norm_backward, batch_norm_train,
    binary_cross_entropy, cross_entropy, l2_normalize, l2_normalize_backward, layer_norm,
    layer_norm_backward, reference, rms_norm, rms_norm_backward, softmax,
};

const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::QuickGelu, Activation::Silu];

/// Rows and columns: awkward sizes, and enough work for several tasks.
fn matrices() -> impl Iterator<Item = (usize, usize)> {
    SIZES.into_iter().flat_map(|rows| SIZES.map(|cols| (rows, cols))).chain([
        (1000, 100),
        (20_000, 5),
        (3, 40_000),
    ])
}

/// The tolerance of a sum of this many terms below 1.
fn sum_tolerance(terms: usize) -> f64 {
    1e-5 * (terms as f64 / 100.0).max(1.0)
}

#[test]
fn activations() {
    for_each_isa(|isa| {
        for activation in ACTIVATIONS {
            for len in SIZES.into_iter().chain([100_000]) {
                let x: Vec<f32> = noise(len, 1).iter().map(|v| v * 12.0).collect();
                let dy = noise(len, 2);
                let what = format!("{isa:?} {activation:?} of {len}");
                let mut y = vec![f32::NAN; len];
                activate(activation, &x, &mut y);
                let definition = |x: &[f64]| x.iter().map(|&x| reference::activate(activation, x)).collect();
                let expected: Vec<f64> = definition(&to_f64(&x));
                assert_close(&y, &expected, 1e-6, &what);
                let mut dx = vec![f32::NAN; len];
                activate_backward(activation, &x, &dy, &mut dx);
                assert_gradient(&what, &x, &dy, &dx, 1e-6, definition);
            }
        }
    });
}

#[test]
fn activations_at_the_ends() {
    let x = [f32::NEG_INFINITY, -1e30, -100.0, 0.0, 100.0, 1e30];
    for activation in [Activation::Gelu, Activation::QuickGelu, Activation::Silu] {
        let mut y = [0.0; 6];
        activate(activation, &x, &mut y);
        assert!(y[1..4].iter().all(|v| v.abs() < 1e-20), "{activation:?}: {y:?}");
        assert_eq!(y[4..], x[4..], "{activation:?}");
    }
    let mut y = [0.0];
    for activation in ACTIVATIONS {
        activate(activation, &[f32::NAN], &mut y);
        assert!(y[0].is_nan(), "{activation:?} hides NaN");
    }
}

#[test]
fn layer_norms() {
    for_each_isa(|isa| {
        for (rows, cols) in matrices() {
            let what = format!("{isa:?} [{rows}, {cols}]");
            let len = rows * cols;
            let (x, dy, gamma, beta) = (noise(len, 1), noise(len, 2), noise(cols, 3), noise(cols, 4));
            let (mut y, mut mean, mut rstd) =
                (vec![f32::NAN; len], vec![f32::NAN; rows], vec![f32::NAN; rows]);
            if cols == 0 {
                (mean, rstd) = (vec![], vec![]); // no elements: no rows
            }
            let (wide_x, wide_gamma, wide_beta) = (to_f64(&x), to_f64(&gamma), to_f64(&beta));
            let expected = reference::layer_norm(&wide_x, &wide_gamma, &wide_beta, 1e-5);
            layer_norm(&x, &gamma, &beta, 1e-5, cols, &mut y, Some(&mut mean), Some(&mut rstd));
            assert_close(&y, &expected.0, 2e-5, &what);
            assert_close(&mean, &expected.1, 1e-6, &what);
            assert_close(&rstd, &expected.2, 2e-5, &what);
            y.fill(f32::NAN);
            layer_norm(&x, &gamma, &beta, 1e-5, cols, &mut y, None, None);
            assert_close(&y, &expected.0, 2e-5, &what);

            if cols == 1 || len > 20_000 {
                continue; // one column is all epsilon; the large ones take the definition too long
            }
            let (mut dx, mut dgamma, mut dbeta) =
                (vec![f32::NAN; len], vec![f32::NAN; cols], vec![f32::NAN; cols]);
            let mut run = |onto, dx: &mut [f32]| {
                layer_norm_backward(&dy, &x, &gamma, &mean, &rstd, cols, onto, dx, &mut dgamma, &mut dbeta);
            };
            run(false, &mut dx);
            let mut sum = vec![1.0; len];
            run(true, &mut sum);
            assert!(sum.iter().zip(&dx).all(|(sum, dx)| *sum == 1.0 + dx), "{what}: added to what is there");
            let y_of = |x: &[f64], gamma: &[f64], beta: &[f64]| reference::layer_norm(x, gamma, beta, 1e-5).0;
            assert_gradient(&format!("{what} dx"), &x, &dy, &dx, 5e-5, |x| y_of(x, &wide_gamma, &wide_beta));
            let tolerance = sum_tolerance(rows);
            assert_gradient(&format!("{what} dgamma"), &gamma, &dy, &dgamma, tolerance, |g| {
                y_of(&wide_x, g, &wide_beta)
            });
            assert_gradient(&format!("{what} dbeta"), &beta, &dy, &dbeta, tolerance, |b| {
                y_of(&wide_x, &wide_gamma, b)
            });
        }
    });
}

#[test]
fn layer_norm_gradients_of_many_rows_add_up() {
    // More rows than one part: the sums are those of two halves.
    let (rows, cols) = (4000, 70);
    let (x, dy, gamma) = (noise(rows * cols, 1), noise(rows * cols, 2), noise(cols, 3));
    let (mean, rstd) = (noise(rows, 4), noise(rows, 5));
    let run = |from: usize, to: usize| {
        let (mut dx, mut dgamma, mut dbeta) =
            (vec![0.0; (to - from) * cols], vec![0.0; cols], vec![0.0; cols]);
        let at = from * cols..to * cols;
        let (mean, rstd) = (&mean[from..to], &rstd[from..to]);
        layer_norm_backward(
            &dy[at.clone()],
            &x[at],
            &gamma,
            mean,
            rstd,
            cols,
            false,
            &mut dx,
            &mut dgamma,
            &mut dbeta,
        );
        (dx, dgamma, dbeta)
    };
    for_each_isa(|isa| {
        let (whole, first, second) = (run(0, rows), run(0, rows / 2), run(rows / 2, rows));
        assert!(whole.0.iter().eq(first.0.iter().chain(&second.0)), "{isa:?} dx");
        for (whole, first, second) in [(whole.1, first.1, second.1), (whole.2, first.2, second.2)] {
            let sums: Vec<f64> =
                first.iter().zip(&second).map(|(&a, &b)| f64::from(a) + f64::from(b)).collect();
            assert_close(&whole, &sums, 1e-4, &format!("{isa:?}"));
        }
    });
}

#[test]
fn rms_norms() {
    for_each_isa(|isa| {
        for (rows, cols) in matrices() {
            let what = format!("{isa:?} [{rows}, {cols}]");
            let (len, statistics) = (rows * cols, if cols == 0 { 0 } else { rows });
            let (x, dy, gamma) = (noise(len, 1), noise(len, 2), noise(cols, 3));
            let (mut y, mut rstd) = (vec![f32::NAN; len], vec![f32::NAN; statistics]);
            let (wide_x, wide_gamma) = (to_f64(&x), to_f64(&gamma));
            let expected = reference::rms_norm(&wide_x, &wide_gamma, 1e-3);
            rms_norm(&x, &gamma, 1e-3, cols, &mut y, None);
            assert_close(&y, &expected.0, 2e-5, &what);
            y.fill(f32::NAN);
            rms_norm(&x, &gamma, 1e-3, cols, &mut y, Some(&mut rstd));
            assert_close(&y, &expected.0, 2e-5, &what);
            assert_close(&rstd, &expected.1, 2e-5, &what);
            if len > 20_000 {
                continue; // the large ones take the definition too long
            }
            let (mut dx, mut dgamma) = (vec![f32::NAN; len], vec![f32::NAN; cols]);
            rms_norm_backward(&dy, &x, &gamma, &rstd, cols, &mut dx, &mut dgamma);
            let y_of = |x: &[f64], gamma: &[f64]| reference::rms_norm(x, gamma, 1e-3).0;
            assert_gradient(&format!("{what} dx"), &x, &dy, &dx, 5e-5, |x| y_of(x, &wide_gamma));
            let tolerance = sum_tolerance(rows);
            assert_gradient(&format!("{what} dgamma"), &gamma, &dy, &dgamma, tolerance, |g| y_of(&wide_x, g));
        }
    });
}

#[test]
fn batch_norms() {
    for_each_isa(|isa| {
        for (rows, channels) in matrices().filter(|(rows, _)| *rows > 0) {
            let len = rows * channels;
            let (x, dy, residual) = (noise(len, 1), noise(len, 2), noise(len, 3));
            let (gamma, beta) = (noise(channels, 4), noise(channels, 5));
            let (wide_x, wide_residual) = (to_f64(&x), to_f64(&residual));
            let (wide_gamma, wide_beta) = (to_f64(&gamma), to_f64(&beta));
            for (relu, add) in [(false, false), (true, false), (false, true), (true, true)] {
                let what = format!("{isa:?} [{rows}, {channels}] relu {relu} residual {add}");
                let y_of = |x: &[f64], gamma: &[f64], beta: &[f64], residual: &[f64]| {
                    reference::batch_norm_train(x, gamma, beta, 1e-5, add.then_some(residual), relu)
                };
                let expected = y_of(&wide_x, &wide_gamma, &wide_beta, &wide_residual);
                let (mut y, mut mean, mut var) =
                    (vec![f32::NAN; len], vec![f32::NAN; channels], vec![f32::NAN; channels]);
                let added = add.then_some(&residual[..]);
                batch_norm_train(&x, &gamma, &beta, 1e-5, added, relu, &mut y, &mut mean, &mut var);
                assert_close(&y, &expected.0, 3e-5, &what);
                assert_close(&mean, &expected.1, 1e-6, &what);
                assert_close(&var, &expected.2, 1e-6, &what);

                let mut dx = vec![f32::NAN; len];
                let mut dresidual = vec![f32::NAN; len];
                let (mut dgamma, mut dbeta) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
                let wanted = add.then_some(&mut dresidual[..]);
                batch_norm_backward(
                    &dy,
                    &x,
                    &y,
                    &gamma,
                    &mean,
                    &var,
                    1e-5,
                    relu,
                    &mut dx,
                    wanted,
                    &mut dgamma,
                    &mut dbeta,
                );
                if rows < 3 || len > 20_000 {
                    assert!(dx.iter().all(|v| v.is_finite()), "{what}");
                    continue; // one row has no variance; the large ones take the definition too long
                }
                let tolerance = sum_tolerance(rows);
                assert_gradient(&format!("{what} dx"), &x, &dy, &dx, 5e-5, |x| {
                    y_of(x, &wide_gamma, &wide_beta, &wide_residual).0
                });
                assert_gradient(&format!("{what} dgamma"), &gamma, &dy, &dgamma, tolerance, |gamma| {
                    y_of(&wide_x, gamma, &wide_beta, &wide_residual).0
                });
                assert_gradient(&format!("{what} dbeta"), &beta, &dy, &dbeta, tolerance, |beta| {
                    y_of(&wide_x, &wide_gamma, beta, &wide_residual).0
                });
                if add {
                    assert_gradient(
                        &format!("{what} dresidual"),
                        &residual,
                        &dy,
                        &dresidual,
                        1e-5,
                        |residual| y_of(&wide_x, &wide_gamma, &wide_beta, residual).0,
                    );
                }
            }
        }
    });
}

#[test]
fn batch_statistics_survive_a_large_mean() {
    let x: Vec<f32> = noise(30_000, 1).iter().map(|v| v + 1000.0).collect();
    let expected = reference::batch_norm_train(&to_f64(&x), &[1.0; 3], &[0.0; 3], 1e-5, None, false);
    let (mut y, mut mean, mut var) = (vec![0.0; x.len()], [0.0; 3], [0.0; 3]);
    batch_norm_train(&x, &[1.0; 3], &[0.0; 3], 1e-5, None, false, &mut y, &mut mean, &mut var);
    assert_close(&mean, &expected.1, 1e-7, "mean");
    assert_close(&var, &expected.2, 1e-5, "variance");
}

#[test]
fn l2_norms() {
    for_each_isa(|isa| {
        for (rows, cols) in matrices() {
            let what = format!("{isa:?} [{rows}, {cols}]");
            let (len, norms) = (rows * cols, if cols == 0 { 0 } else { rows });
            let (x, dy) = (noise(len, 1), noise(len, 2));
            let (mut y, mut norm, mut dx) = (vec![f32::NAN; len], vec![f32::NAN; norms], vec![f32::NAN; len]);
            l2_normalize(&x, cols, 1e-12, &mut y, &mut norm);
            assert_close(&y, &reference::l2_normalize(&to_f64(&x), cols, 1e-12), 1e-6, &what);
            l2_normalize_backward(&dy, &y, &norm, cols, 1e-12, &mut dx);
            if (2..1000).contains(&cols) && rows < 1000 {
                assert_gradient(&what, &x, &dy, &dx, 2e-5, |x| reference::l2_normalize(x, cols, 1e-12));
            }
        }
        let (mut y, mut norm, mut dx) = ([1.0; 3], [1.0; 1], [1.0; 3]);
        l2_normalize(&[0.0; 3], 3, 0.5, &mut y, &mut norm);
        l2_normalize_backward(&[1.0, 2.0, 3.0], &y, &norm, 3, 0.5, &mut dx);
        assert_eq!((y, norm, dx), ([0.0; 3], [0.0], [2.0, 4.0, 6.0]));
    });
}

#[test]
fn softmaxes() {
    for_each_isa(|isa| {
        for (rows, cols) in matrices() {
            let x: Vec<f32> = noise(rows * cols, 1).iter().map(|v| v * 30.0).collect();
            let mut y = vec![f32::NAN; rows * cols];
            softmax(&x, cols, &mut y);
            assert_close(
                &y,
                &reference::softmax(&to_f64(&x), cols),
                1e-6,
                &format!("{isa:?} [{rows}, {cols}]"),
            );
        }
    });
}

/// A kernel that compares rows of logits with targets, and its definition.
type Loss = fn(&[f32], Targets, usize, &mut [f32], Option<&mut [f32]>);
type Definition = fn(&[f64], &[f64], usize) -> Vec<f64>;

#[test]
fn cross_entropies() {
    let losses: [(&str, Loss, Definition); 2] = [
        ("softmax", cross_entropy, reference::cross_entropy),
        ("sigmoid", binary_cross_entropy, reference::binary_cross_entropy),
    ];
    for_each_isa(|isa| {
        for ((name, kernel, definition), (rows, cols)) in
            losses.into_iter().flat_map(|loss| matrices().map(move |size| (loss, size)))
        {
            if cols == 0 {
                continue;
            }
            let what = format!("{isa:?} {name} [{rows}, {cols}]");
            let logits: Vec<f32> = noise(rows * cols, 1).iter().map(|v| v * 20.0).collect();
            let classes: Vec<u32> = (0..rows).map(|r| (r * 7 % cols) as u32).collect();
            let hard: Vec<f64> = (0..rows * cols)
                .map(|i| f64::from(u8::from(i % cols == classes[i / cols] as usize)))
                .collect();
            // Soft targets need not sum to 1.
            let soft: Vec<f32> = noise(rows * cols, 2).iter().map(|v| v.abs() / cols as f32).collect();
            let smooth = hard.iter().map(|weight| 0.9 * weight + 0.1 / cols as f64).collect();
            for (targets, weights) in [
                (Targets::Classes(&classes), hard),
                (Targets::Smoothed(&classes, 0.1), smooth),
                (Targets::Soft(&soft), to_f64(&soft)),
            ] {
                let expected = definition(&to_f64(&logits), &weights, cols);
                let (mut loss, mut gradient) = (vec![f32::NAN; rows], vec![f32::NAN; rows * cols]);
                kernel(&logits, targets, cols, &mut loss, None);
                assert_close(&loss, &expected, 1e-5, &what);
                loss.fill(f32::NAN);
                kernel(&logits, targets, cols, &mut loss, Some(&mut gradient));
                assert_close(&loss, &expected, 1e-5, &what);
                // In larger sums the differences drown.
                if rows * cols <= 5_000 {
                    assert_gradient(&what, &logits, &vec![1.0; rows], &gradient, 1e-5, |logits| {
                        definition(logits, &weights, cols)
                    });
                }
            }
        }
    });
}
