//! Element-wise operations, reductions, layout, embedding, pooling and the optimizer, on every instruction set.

mod common;

use common::{SIZES, assert_close, assert_gradient, for_each_isa, noise, to_f64};
use tuwen_kernels::{
    AdamW, adamw, add, add_broadcast, avg_pool2d, avg_pool2d_backward, axpy, column_sums, dot, gather_rows,
    lerp, mean_axis, mul, permute, reference, scale, scatter_add_rows, sum, sum_squares,
};

fn lengths() -> impl Iterator<Item = usize> {
    SIZES.into_iter().chain([100_001])
}

#[test]
fn arithmetic() {
    for_each_isa(|isa| {
        for len in lengths() {
            let (a, b) = (noise(len, 1), noise(len, 2));
            let check = |name: &str, got: &[f32], expected: Vec<f32>| {
                assert!(got == expected, "{isa:?} {name} of {len}");
            };
            let mut out = vec![f32::NAN; len];
            add(&a, &b, &mut out);
            check("add", &out, reference::add(&a, &b));
            mul(&a, &b, &mut out);
            check("mul", &out, reference::mul(&a, &b));
            scale(&a, 3.0, &mut out);
            check("scale", &out, reference::scale(&a, 3.0));
            out.copy_from_slice(&a);
            axpy(-0.5, &b, &mut out);
            check("axpy", &out, reference::axpy(-0.5, &b, &a));
            out.copy_from_slice(&a);
            lerp(0.125, &b, &mut out);
            check("lerp", &out, reference::lerp(0.125, &b, &a));
        }
    });
}

#[test]
fn broadcast() {
    for_each_isa(|isa| {
        for (rows, cols) in SIZES.iter().flat_map(|&r| SIZES.map(|c| (r, c))).chain([(3000, 17), (2, 40_000)])
        {
            let (x, b) = (noise(rows * cols, 1), noise(cols, 2));
            let mut out = vec![f32::NAN; rows * cols];
            add_broadcast(&x, &b, &mut out);
            assert!(out == reference::add_broadcast(&x, &b), "{isa:?} [{rows}, {cols}]");
        }
    });
}

#[test]
fn reductions() {
    for_each_isa(|isa| {
        for len in lengths() {
            let (a, b) = (noise(len, 1), noise(len, 2));
            let close = |name: &str, got: f64, expected: f64| {
                let error = (got - expected).abs() / (len.max(1) as f64).sqrt();
                assert!(error < 1e-6, "{isa:?} {name} of {len}: {got}, expected {expected}");
            };
            let (wide_a, wide_b) = (to_f64(&a), to_f64(&b));
            close("sum", sum(&a), reference::sum(&wide_a));
            close("sum of squares", sum_squares(&a), reference::sum_squares(&wide_a));
            close("dot", dot(&a, &b), reference::dot(&wide_a, &wide_b));
        }
        for (rows, cols) in
            SIZES.iter().flat_map(|&r| SIZES.map(|c| (r, c))).chain([(5000, 33), (100_000, 1)])
        {
            let x = noise(rows * cols, 1);
            let mut out = vec![f32::NAN; cols];
            column_sums(&x, cols, &mut out);
            assert_close(
                &out,
                &reference::column_sums(&to_f64(&x), cols),
                2e-5 * (rows as f64 / 100.0).max(1.0),
                &format!("{isa:?} [{rows}, {cols}]"),
            );
        }
    });
}

#[test]
fn means_over_an_axis() {
    for_each_isa(|isa| {
        let sizes = SIZES.into_iter().flat_map(|len| SIZES.map(|inner| (len, inner)));
        for (outer, len, inner) in sizes.flat_map(|(len, inner)| [0, 1, 3].map(|outer| (outer, len, inner))) {
            if len == 0 {
                continue; // the mean of nothing is not a number, says the definition
            }
            let x = noise(outer * len * inner, 1);
            let mut out = vec![f32::NAN; outer * inner];
            mean_axis(&x, outer, len, inner, &mut out);
            let expected = reference::mean_axis(&to_f64(&x), outer, len, inner);
            assert_close(&out, &expected, 1e-6, &format!("{isa:?} [{outer}, {len}, {inner}]"));
        }
        let mut out = [f32::NAN; 2];
        mean_axis(&[], 1, 0, 2, &mut out);
        assert_eq!(out, [0.0; 2]);
    });
}

#[test]
fn permutations() {
    let cases: [(&[usize], &[usize]); 16] = [
        (&[], &[]),
        (&[5], &[0]),
        (&[3, 0], &[1, 0]),
        (&[63, 65], &[1, 0]),
        (&[257, 129], &[1, 0]),
        (&[1000, 3], &[1, 0]),
        (&[2, 7, 5], &[0, 2, 1]),
        (&[4, 3, 17], &[1, 0, 2]),
        (&[4, 3, 17], &[2, 1, 0]),
        (&[4, 3, 17], &[1, 2, 0]),
        (&[4, 3, 17], &[2, 0, 1]),
        (&[2, 3, 33, 20], &[0, 2, 3, 1]),
        (&[2, 33, 20, 3], &[0, 3, 1, 2]),
        (&[2, 50, 3, 64], &[0, 2, 1, 3]),
        (&[5, 4, 3, 2], &[3, 1, 0, 2]),
        (&[2, 3, 4, 5, 6], &[3, 0, 4, 2, 1]),
    ];
    for_each_isa(|isa| {
        for (shape, axes) in cases {
            let x = noise(shape.iter().product(), 1);
            let mut y = vec![f32::NAN; x.len()];
            permute(&x, shape, axes, &mut y);
            assert!(y == reference::permute(&x, shape, axes), "{isa:?} {shape:?} to {axes:?}");
        }
    });
}

#[test]
fn embeddings() {
    let sizes = SIZES.into_iter().flat_map(|cols| SIZES.map(|count| (50, cols, count)));
    let sizes: Vec<_> = sizes.chain([(1, 1, 1), (300, 100, 2000)]).collect();
    for_each_isa(|isa| {
        for &(rows, cols, count) in &sizes {
            let what = format!("{isa:?} {rows} rows of {cols}, {count} ids");
            let (table, dout) = (noise(rows * cols, 1), noise(count * cols, 2));
            let ids: Vec<u32> = (0..count).map(|i| (i * i % rows) as u32).collect();
            let mut out = vec![f32::NAN; count * cols];
            gather_rows(&table, cols, &ids, &mut out);
            assert!(out == reference::gather_rows(&table, cols, &ids), "{what}");
            let mut dtable = table.clone();
            scatter_add_rows(&dout, cols, &ids, &mut dtable);
            assert!(dtable == reference::scatter_add_rows(&dout, cols, &ids, &table), "{what}");
        }
    });
}

#[test]
#[should_panic(expected = "gather_rows: id 3 in a table of 3 rows")]
fn an_id_outside_the_table_is_refused() {
    gather_rows(&[0.0; 6], 2, &[3], &mut [0.0; 2]);
}

#[test]
fn pools() {
    let odd = [
        (2, 4, 6, 5, 2),
        (1, 7, 5, 3, 2),
        (1, 9, 9, 65, 3),
        (1, 3, 3, 4, 5),
        (0, 4, 4, 4, 2),
        (3, 4, 4, 1, 1),
    ];
    let channels = SIZES.map(|channels| (2, 5, 4, channels, 2));
    let heights = SIZES.map(|height| (1, height, 3, 4, 3));
    for_each_isa(|isa| {
        for (batch, height, width, channels, k) in odd.into_iter().chain(channels).chain(heights) {
            let what = format!("{isa:?} {batch} {height}x{width} {channels} by {k}");
            let x = noise(batch * height * width * channels, 1);
            let pool = |x: &[f64]| reference::avg_pool2d(x, batch, height, width, channels, k);
            let expected = pool(&to_f64(&x));
            let (mut y, dy, mut dx) =
                (vec![f32::NAN; expected.len()], noise(expected.len(), 2), vec![f32::NAN; x.len()]);
            avg_pool2d(&x, batch, height, width, channels, k, &mut y);
            assert_close(&y, &expected, 1e-6, &what);
            avg_pool2d_backward(&dy, batch, height, width, channels, k, &mut dx);
            assert_gradient(&what, &x, &dy, &dx, 1e-6, pool);
        }
    });
}

#[test]
fn adamw_steps() {
    for_each_isa(|isa| {
        for len in lengths() {
            let (mut p, mut m, mut v) = (noise(len, 1), vec![0.0; len], vec![0.0; len]);
            let mut expected: Vec<_> = p.iter().map(|&p| (f64::from(p), 0.0, 0.0)).collect();
            for step in 1..=5 {
                let grad = noise(len, 10 + step);
                let options = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.98, eps: 1e-6, weight_decay: 0.2, step };
                adamw(&mut p, &grad, &mut m, &mut v, &options);
                for (e, &g) in expected.iter_mut().zip(&grad) {
                    *e = reference::adamw(e.0, f64::from(g), e.1, e.2, &options);
                }
            }
            let column = |f: fn(&(f64, f64, f64)) -> f64| expected.iter().map(f).collect::<Vec<_>>();
            assert_close(&p, &column(|e| e.0), 1e-6, &format!("{isa:?} parameters of {len}"));
            assert_close(&m, &column(|e| e.1), 1e-6, &format!("{isa:?} first moments of {len}"));
            assert_close(&v, &column(|e| e.2), 1e-6, &format!("{isa:?} second moments of {len}"));
        }
    });
}

/// Element-wise kernels and the sums of rows are written without fused operations and in fixed lanes for this.
#[test]
fn every_instruction_set_gives_the_same_bits() {
    use tuwen_kernels::{Activation, activate, layer_norm, softmax};
    let (x, gamma) = (noise(257 * 65, 1), noise(65, 2));
    let mut results: Vec<Vec<u32>> = Vec::new();
    for_each_isa(|_| {
        let mut all = vec![sum(&x) as f32];
        let mut y = vec![0.0; x.len()];
        for activation in [Activation::Gelu, Activation::QuickGelu, Activation::Silu] {
            activate(activation, &x, &mut y);
            all.extend(&y);
        }
        layer_norm(&x, &gamma, &gamma, 1e-5, 65, &mut y, None, None);
        all.extend(&y);
        softmax(&x, 65, &mut y);
        all.extend(&y);
        results.push(all.iter().map(|v| v.to_bits()).collect());
    });
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}
