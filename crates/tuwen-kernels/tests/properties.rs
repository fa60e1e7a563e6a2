//! What a result may depend on: never on the other rows of a batch, on the number of threads only in its last bits.

mod common;

use common::{assert_close, for_each_isa, noise, to_f64};
use tuwen_kernels::{
    Activation, AttentionShape, ConvShape, Dropout, Epilogue, MatRef, PackedB, PackedConv, Precision,
    Targets, attention, attention_backward, avg_pool2d, batch_norm_backward, batch_norm_train, column_sums,
    conv2d, conv2d_backward_input, conv2d_backward_weight, cross_entropy, gemm, l2_normalize, layer_norm,
    layer_norm_backward, matmul, rms_norm, rms_norm_backward, scatter_add_rows, set_threads, softmax, sum,
};

/// A computation on a batch of this many: one result for each, in order.
type Batched = (&'static str, fn(usize) -> Vec<f32>);

const WIDTH: usize = 65;

/// Inputs that are the same for the same member of a batch.
fn inputs(batch: usize, len: usize, seed: u64) -> Vec<f32> {
    (0..batch as u64).flat_map(|i| noise(len, 1000 * seed + i)).collect()
}

fn product(rows: usize, k: usize, n: usize) -> Vec<f32> {
    let (a, b, bias, residual) = (inputs(rows, k, 1), noise(k * n, 2), noise(n, 3), inputs(rows, n, 4));
    let epilogue = Epilogue {
        bias: Some(&bias),
        activation: Activation::Gelu,
        residual: Some(&residual),
        ..Epilogue::default()
    };
    let mut c = vec![0.0; rows * n];
    gemm(MatRef::new(&a, rows, k), &PackedB::pack(MatRef::new(&b, k, n)), &mut c, &epilogue);
    c
}

fn long_product(rows: usize) -> Vec<f32> {
    let (k, n) = (5000, 40);
    let (a, b, mut c) = (inputs(rows, k, 1), noise(k * n, 2), vec![0.0; rows * n]);
    matmul(MatRef::new(&a, rows, k), MatRef::new(&b, k, n), &mut c, &Epilogue::default());
    c
}

fn convolution(batch: usize) -> Vec<f32> {
    let shape = ConvShape {
        batch,
        height: 9,
        width: 7,
        in_channels: 5,
        out_channels: 33,
        kernel: 3,
        stride: 1,
        padding: 1,
    };
    let (x, weight) = (inputs(batch, 9 * 7 * 5, 1), noise(33 * 5 * 9, 2));
    let mut y = vec![0.0; batch * 9 * 7 * 33];
    conv2d(&x, &PackedConv::pack(&weight, &shape, Precision::F32), &shape, &mut y, &Epilogue::default());
    let mut dx = vec![0.0; x.len()];
    conv2d_backward_input(&y, &weight, &shape, &mut dx);
    joined(batch, &[&y, &dx])
}

/// Results of each member of the batch side by side.
fn joined(batch: usize, parts: &[&[f32]]) -> Vec<f32> {
    (0..batch)
        .flat_map(|i| {
            parts.iter().flat_map(move |part| {
                let len = part.len() / batch;
                part[i * len..(i + 1) * len].iter().copied()
            })
        })
        .collect()
}

fn attend(batch: usize) -> Vec<f32> {
    let shape = AttentionShape {
        batch,
        heads: 3,
        head_dim: 22,
        query_len: 50,
        key_len: 77,
        scale: 0.2,
        causal: true,
        precision: Precision::F32,
        dropout: Dropout { rate: 0.2, seed: 3 },
    };
    let [queries, keys] = [50, 77].map(|len| len * 66);
    let (q, k, v, dout) = (
        inputs(batch, queries, 1),
        inputs(batch, keys, 2),
        inputs(batch, keys, 3),
        inputs(batch, queries, 4),
    );
    let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; batch * 3 * 50]);
    attention(&q, &k, &v, None, &shape, &mut out, Some(&mut lse));
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    attention_backward(&q, &k, &v, &out, &lse, &dout, None, &shape, &mut dq, &mut dk, &mut dv);
    joined(batch, &[&out, &lse, &dq, &dk, &dv])
}

fn rows(batch: usize) -> Vec<f32> {
    let (x, gamma) = (inputs(batch, WIDTH, 1), noise(WIDTH, 2));
    let mut results: [Vec<f32>; 5] = std::array::from_fn(|_| vec![0.0; x.len()]);
    let [normal, rms, soft, unit, dlogits] = &mut results;
    let (mut norm, mut loss) = (vec![0.0; batch], vec![0.0; batch]);
    layer_norm(&x, &gamma, &gamma, 1e-5, WIDTH, normal, None, None);
    rms_norm(&x, &gamma, 1e-5, WIDTH, rms, None);
    softmax(&x, WIDTH, soft);
    l2_normalize(&x, WIDTH, 1e-12, unit, &mut norm);
    cross_entropy(&x, Targets::Classes(&vec![3; batch]), WIDTH, &mut loss, Some(dlogits));
    let [normal, rms, soft, unit, dlogits] = &results;
    joined(batch, &[normal, rms, soft, unit, dlogits, &loss])
}

fn pool(batch: usize) -> Vec<f32> {
    let mut y = vec![0.0; batch * 4 * 65];
    avg_pool2d(&inputs(batch, 5 * 4 * 65, 1), batch, 5, 4, 65, 2, &mut y);
    y
}

const BATCHED: [Batched; 7] = [
    ("product", |rows| product(rows, 100, 70)),
    ("product of more than a piece of the depth", |rows| product(rows, 2000, 33)),
    ("product of long sums", long_product),
    ("convolution", convolution),
    ("attention", attend),
    ("rows", rows),
    ("pool", pool),
];

/// Sums over a batch: these depend on all of it.
fn sums(rows: usize) -> Vec<f32> {
    let (x, dy, gamma) = (inputs(rows, WIDTH, 1), inputs(rows, WIDTH, 2), noise(WIDTH, 3));
    let new = || vec![0.0; WIDTH];
    let (mut all, mut dx, mut y) = (vec![sum(&x) as f32], vec![0.0; x.len()], vec![0.0; x.len()]);
    let [mut a, mut b, mut mean, mut var] = [new(), new(), new(), new()];
    column_sums(&x, WIDTH, &mut a);
    all.extend(&a);
    let (mean_of_row, rstd) = (vec![0.1; rows], vec![1.5; rows]);
    layer_norm_backward(&dy, &x, &gamma, &mean_of_row, &rstd, WIDTH, false, &mut dx, &mut a, &mut b);
    all.extend(dx.iter().chain(&a).chain(&b));
    rms_norm_backward(&dy, &x, &gamma, &rstd, WIDTH, &mut dx, &mut a);
    all.extend(dx.iter().chain(&a));
    batch_norm_train(&x, &gamma, &gamma, 1e-5, None, true, &mut y, &mut mean, &mut var);
    batch_norm_backward(&dy, &x, &y, &gamma, &mean, &var, 1e-5, true, &mut dx, None, &mut a, &mut b);
    all.extend(y.iter().chain(&dx).chain(&a).chain(&b));
    let ids: Vec<u32> = (0..rows as u32).map(|i| i * i % 7).collect();
    let mut table = vec![0.0; 7 * WIDTH];
    scatter_add_rows(&x, WIDTH, &ids, &mut table);
    all.extend(&table);
    all
}

fn weight_gradient(batch: usize) -> Vec<f32> {
    let shape = ConvShape {
        batch,
        height: 16,
        width: 16,
        in_channels: 5,
        out_channels: 33,
        kernel: 3,
        stride: 1,
        padding: 1,
    };
    let (x, dy) = (inputs(batch, 256 * 5, 1), inputs(batch, 256 * 33, 2));
    let mut dweight = vec![0.0; 33 * 5 * 9];
    conv2d_backward_weight(&x, &dy, &shape, &mut dweight);
    dweight
}

const SUMMED: [Batched; 2] =
    [("sums over rows", |batch| sums(200 * batch)), ("weight gradient", weight_gradient)];

#[track_caller]
fn assert_same_bits(got: &[f32], expected: &[f32], what: &str) {
    let same = got.iter().map(|v| v.to_bits()).eq(expected.iter().map(|v| v.to_bits()));
    assert!(same, "{what}: other bits");
}

#[test]
fn a_result_does_not_depend_on_the_batch() {
    for_each_isa(|isa| {
        for (name, compute) in BATCHED {
            let largest = 33;
            let all = compute(largest);
            let len = all.len() / largest;
            for batch in [1, 2, 3, 5, 14, 15, 32] {
                let what = format!("{isa:?} {name}, {batch} of {largest}");
                assert_same_bits(&compute(batch), &all[..batch * len], &what);
            }
        }
    });
}

#[test]
fn a_result_does_not_depend_on_masked_keys() {
    let shape = |key_len| AttentionShape {
        batch: 1,
        heads: 2,
        head_dim: 16,
        query_len: 9,
        key_len,
        scale: 0.25,
        causal: false,
        precision: Precision::F32,
        dropout: Dropout::default(),
    };
    let (q, k, v) = (noise(9 * 32, 1), noise(77 * 32, 2), noise(77 * 32, 3));
    for_each_isa(|isa| {
        for seen in [1, 9, 31, 32, 33, 64] {
            let mask: Vec<bool> = (0..77).map(|key| key < seen).collect();
            let (mut short, mut padded) = (vec![0.0; q.len()], vec![0.0; q.len()]);
            attention(&q, &k[..seen * 32], &v[..seen * 32], None, &shape(seen), &mut short, None);
            attention(&q, &k, &v, Some(&mask), &shape(77), &mut padded, None);
            assert_same_bits(&padded, &short, &format!("{isa:?}, {seen} of 77 keys"));
        }
    });
}

#[test]
fn threads_change_only_rounding_and_the_same_threads_nothing() {
    for_each_isa(|isa| {
        for (name, compute) in BATCHED.into_iter().chain(SUMMED) {
            set_threads(1);
            let alone = compute(8);
            for threads in [1, 2, 3] {
                set_threads(threads);
                let what = format!("{isa:?} {name}, {threads} threads");
                let first = compute(8);
                assert_close(&first, &to_f64(&alone), 1e-4, &what);
                for _ in 0..3 {
                    assert_same_bits(&compute(8), &first, &what);
                }
            }
        }
        set_threads(0);
    });
}
