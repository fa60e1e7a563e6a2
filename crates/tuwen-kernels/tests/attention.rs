//! Attention against its definition and its gradients against finite differences, on every instruction set.

mod common;

use common::{SIZES, assert_close, assert_gradient, for_each_isa, noise, to_f64};
use tuwen_kernels::{
    AttentionShape, Dropout, Precision, SelfAttentionInputs, Step, attention, attention_backward,
    attention_to_bf16, attention_to_steps, attention_weights, bf16_len, reference, round_to_bf16,
    self_attention, self_attention_backward, self_attention_kept_len, widen_from_bf16,
};

/// Batch, heads, head dimension, queries, keys.
type Sizes = (usize, usize, usize, usize, usize);

fn shapes(more: impl Iterator<Item = Sizes>) -> impl Iterator<Item = AttentionShape> {
    let sizes = [
        (2, 3, 8, 5, 5),
        (1, 2, 16, 1, 9),
        (2, 1, 64, 50, 50),
        (1, 2, 33, 77, 77),
        (1, 1, 128, 3, 65),
        (1, 2, 7, 65, 3),
        (1, 1, 8, 257, 130),
        (0, 2, 8, 4, 4),
        (1, 2, 8, 0, 4),
        (1, 2, 8, 4, 0),
        (3, 0, 8, 4, 4),
    ];
    sizes.into_iter().chain(more).flat_map(|(batch, heads, head_dim, query_len, key_len)| {
        [(false, 0.0), (true, 0.0), (false, 0.3)].map(|(causal, rate)| AttentionShape {
            batch,
            heads,
            head_dim,
            query_len,
            key_len,
            scale: 1.5 / (head_dim as f32).sqrt(),
            causal,
            precision: Precision::F32,
            dropout: Dropout { rate, seed: 5 },
        })
    })
}

/// No mask, a mask with holes, and a mask that hides the whole first sequence.
fn masks(shape: &AttentionShape) -> [Option<Vec<bool>>; 3] {
    let keys = shape.batch * shape.key_len;
    let holes = (0..keys).map(|i| i % 3 != 1).collect();
    [None, Some(holes), Some((0..keys).map(|i| i >= shape.key_len).collect())]
}

#[test]
fn in_bf16_within_its_rounding() {
    for_each_isa(|isa| {
        for (query_len, key_len, causal) in
            [(1, 1, false), (50, 50, false), (33, 129, true), (130, 65, false)]
        {
            let (batch, heads, head_dim, scale) = (2, 3, 20, 0.3);
            let shape = AttentionShape {
                batch,
                heads,
                head_dim,
                query_len,
                key_len,
                scale,
                causal,
                precision: Precision::Bf16,
                dropout: Dropout { rate: 0.1, seed: 6 },
            };
            let width = heads * head_dim;
            let q = noise(batch * query_len * width, 1);
            let (k, v) = (noise(batch * key_len * width, 2), noise(batch * key_len * width, 3));
            let mask: Vec<bool> = (0..batch * key_len).map(|i| i % 5 != 2).collect();
            let expected = reference::attention(&to_f64(&q), &to_f64(&k), &to_f64(&v), Some(&mask), &shape);
            let mut out = vec![f32::NAN; q.len()];
            attention(&q, &k, &v, Some(&mask), &shape, &mut out, None);
            assert_close(&out, &expected, 1.5e-2, &format!("{isa:?} {shape:?}"));
        }
    });
}

#[test]
fn forward() {
    let lengths = SIZES.into_iter().flat_map(|queries| SIZES.map(|keys| (1, 2, 5, queries, keys)));
    let dims = SIZES.map(|dim| (2, 1, dim, 3, 4));
    for_each_isa(|isa| {
        for shape in shapes(lengths.clone().chain(dims)) {
            let width = shape.heads * shape.head_dim;
            let (queries, keys) =
                (shape.batch * shape.query_len * width, shape.batch * shape.key_len * width);
            let (q, k, v) = (noise(queries, 1), noise(keys, 2), noise(keys, 3));
            let (wide_q, wide_k, wide_v) = (to_f64(&q), to_f64(&k), to_f64(&v));
            for mask in masks(&shape) {
                let (mask, what) = (mask.as_deref(), format!("{isa:?} {shape:?} mask {mask:?}"));
                let expected = reference::attention(&wide_q, &wide_k, &wide_v, mask, &shape);
                let mut out = vec![f32::NAN; queries];
                attention(&q, &k, &v, mask, &shape, &mut out, None);
                assert_close(&out, &expected, 1e-5, &what);

                let expected = reference::attention_weights(&wide_q, &wide_k, mask, &shape);
                let mut weights = vec![f32::NAN; expected.len()];
                attention_weights(&q, &k, mask, &shape, &mut weights);
                assert_close(&weights, &expected, 1e-5, &what);
            }
        }
    });
}

#[test]
fn keys_and_values_in_bf16_are_what_was_rounded() {
    for_each_isa(|isa| {
        // Few queries are computed in another way than many.
        for (query_len, key_len) in [(1, 1), (1, 130), (3, 65), (6, 7), (7, 33), (20, 9)] {
            let sizes = (2, 3, 5, query_len, key_len);
            for shape in shapes(std::iter::once(sizes)).filter(|shape| shape.head_dim == 5) {
                let width = shape.heads * shape.head_dim;
                let q = noise(shape.batch * query_len * width, 1);
                let kept = [2, 3].map(|seed| {
                    let x = noise(shape.batch * key_len * width, seed);
                    let mut rounded = vec![f32::NAN; bf16_len(x.len())];
                    round_to_bf16(&x, &mut rounded);
                    let mut again = vec![f32::NAN; x.len()];
                    widen_from_bf16(&rounded, &mut again);
                    assert_close(&again, &to_f64(&x), 4e-3, "rounded");
                    (rounded, again)
                });
                let [(k, wide_k), (v, wide_v)] = &kept;
                for mask in masks(&shape) {
                    let mask = mask.as_deref();
                    let (q64, k64, v64) = (to_f64(&q), to_f64(wide_k), to_f64(wide_v));
                    let expected = reference::attention(&q64, &k64, &v64, mask, &shape);
                    let mut out = vec![f32::NAN; q.len()];
                    attention_to_bf16(&q, [k, v], mask, &shape, &mut out, None);
                    assert_close(&out, &expected, 1e-5, &format!("{isa:?} {shape:?} mask {mask:?}"));
                }
            }
        }
    });
}

#[test]
fn few_queries_in_bf16_within_its_rounding() {
    for_each_isa(|isa| {
        let sizes = SIZES.into_iter().chain([20]).filter(|&dim| dim > 0);
        let sizes = sizes.flat_map(|dim| [1, 3, 6].map(|queries| (dim, queries)));
        for ((head_dim, query_len), key_len) in
            sizes.flat_map(|size| [7, 128, 161, 257].map(|keys| (size, keys)))
        {
            let (batch, heads, scale) = (2, 2, 1.0 / (head_dim as f32).sqrt());
            let (precision, dropout) = (Precision::Bf16, Dropout { rate: 0.1, seed: 6 });
            let shape = AttentionShape {
                dropout,
                batch,
                heads,
                head_dim,
                query_len,
                key_len,
                scale,
                causal: false,
                precision,
            };
            let width = heads * head_dim;
            let q = noise(batch * query_len * width, 1);
            let kept = [2, 3].map(|seed| {
                let x = noise(batch * key_len * width, seed);
                let mut rounded = vec![f32::NAN; bf16_len(x.len())];
                round_to_bf16(&x, &mut rounded);
                (rounded, x)
            });
            let [(k, wide_k), (v, wide_v)] = &kept;
            let mask: Vec<bool> = (0..batch * key_len).map(|i| i % 5 != 2).collect();
            let (q64, k64, v64) = (to_f64(&q), to_f64(wide_k), to_f64(wide_v));
            let expected = reference::attention(&q64, &k64, &v64, Some(&mask), &shape);
            let mut out = vec![f32::NAN; q.len()];
            attention_to_bf16(&q, [k, v], Some(&mask), &shape, &mut out, None);
            assert_close(&out, &expected, 1.5e-2, &format!("{isa:?} {shape:?}"));
        }
    });
}

#[test]
fn to_steps_as_to_keys_that_were_put_together() {
    for_each_isa(|isa| {
        // Steps had more rows than go on, in another order.
        let (batch, rows_of_steps) = (3, [4, 2, 3]);
        let rows: [&[u32]; 3] = [&[3, 0, 3], &[1, 1, 0], &[0, 1, 2]];
        for (heads, head_dim, tokens) in [(2, 5, [1, 1, 1]), (3, 64, [3, 1, 1]), (1, 33, [40, 20, 7])] {
            let (width, query_len, key_len) = (heads * head_dim, tokens[2], tokens.iter().sum());
            let scale = 1.0 / (head_dim as f32).sqrt();
            let (precision, dropout) = (Precision::F32, Dropout::default());
            let shape = AttentionShape {
                dropout,
                batch,
                heads,
                head_dim,
                query_len,
                key_len,
                scale,
                causal: true,
                precision,
            };
            let q = noise(batch * query_len * width, 1);
            let data: Vec<[Vec<f32>; 2]> = (0..3)
                .map(|step| {
                    [2, 3].map(|seed| {
                        noise(rows_of_steps[step] * tokens[step] * width, seed + 10 * step as u64)
                    })
                })
                .collect();
            let steps: Vec<Step> = (0..3)
                .map(|i| Step { keys: &data[i][0], values: &data[i][1], tokens: tokens[i], rows: rows[i] })
                .collect();
            let together = |side: usize| -> Vec<f64> {
                let of_step = |sequence: usize, step: usize| {
                    let len = tokens[step] * width;
                    to_f64(&data[step][side][rows[step][sequence] as usize * len..][..len])
                };
                (0..batch).flat_map(|i| (0..3).flat_map(move |step| of_step(i, step))).collect()
            };
            let expected = reference::attention(&to_f64(&q), &together(0), &together(1), None, &shape);
            let mut out = vec![f32::NAN; q.len()];
            attention_to_steps(&q, &steps, &shape, &mut out);
            assert_close(&out, &expected, 1e-5, &format!("{isa:?} {shape:?}"));
        }
    });
}

#[test]
fn large_scores_do_not_overflow() {
    let shape = AttentionShape {
        batch: 1,
        heads: 1,
        head_dim: 1,
        query_len: 2,
        key_len: 2,
        scale: 1.0,
        causal: false,
        precision: Precision::F32,
        dropout: Dropout::default(),
    };
    let (q, k, v) = ([1000.0, -1000.0], [1.0, -1.0], [3.0, 5.0]);
    let (mut out, mut lse) = ([0.0; 2], [0.0; 2]);
    attention(&q, &k, &v, None, &shape, &mut out, Some(&mut lse));
    assert_eq!(out, [3.0, 5.0]);
    assert_eq!(lse, [1000.0, 1000.0]);
}

#[test]
fn gradients() {
    for_each_isa(|isa| {
        for shape in shapes(
            SIZES.into_iter().flat_map(|len| [(1, 1, 3, len, 3), (1, 1, 3, 3, len), (1, 1, len, 3, 4)]),
        ) {
            let width = shape.heads * shape.head_dim;
            let (queries, keys) =
                (shape.batch * shape.query_len * width, shape.batch * shape.key_len * width);
            let (q, k, v, dout) = (noise(queries, 1), noise(keys, 2), noise(keys, 3), noise(queries, 4));
            let (wide_q, wide_k, wide_v) = (to_f64(&q), to_f64(&k), to_f64(&v));
            for mask in masks(&shape) {
                let (mask, what) = (mask.as_deref(), format!("{isa:?} {shape:?} mask {mask:?}"));
                let (mut out, mut lse) =
                    (vec![f32::NAN; queries], vec![f32::NAN; shape.batch * shape.heads * shape.query_len]);
                attention(&q, &k, &v, mask, &shape, &mut out, Some(&mut lse));
                let (mut dq, mut dk, mut dv) =
                    (vec![f32::NAN; queries], vec![f32::NAN; keys], vec![f32::NAN; keys]);
                attention_backward(&q, &k, &v, &out, &lse, &dout, mask, &shape, &mut dq, &mut dk, &mut dv);
                assert_gradient(&format!("dq of {what}"), &q, &dout, &dq, 1e-5, |q| {
                    reference::attention(q, &wide_k, &wide_v, mask, &shape)
                });
                assert_gradient(&format!("dk of {what}"), &k, &dout, &dk, 1e-5, |k| {
                    reference::attention(&wide_q, k, &wide_v, mask, &shape)
                });
                assert_gradient(&format!("dv of {what}"), &v, &dout, &dv, 1e-5, |v| {
                    reference::attention(&wide_q, &wide_k, v, mask, &shape)
                });
            }
        }
    });
}

/// Rows of three tensors side by side.
fn beside(parts: [&[f32]; 3], width: usize) -> Vec<f32> {
    let rows = parts[0].len() / width.max(1);
    (0..rows).flat_map(|row| parts.map(|part| &part[row * width..(row + 1) * width]).concat()).collect()
}

#[test]
fn side_by_side_as_apart() {
    for_each_isa(|isa| {
        for shape in shapes(std::iter::empty()).filter(|shape| shape.query_len == shape.key_len) {
            let width = shape.heads * shape.head_dim;
            let (rows, len) = (shape.batch * shape.key_len, shape.batch * shape.key_len * width);
            let (q, k, v, dout) = (noise(len, 1), noise(len, 2), noise(len, 3), noise(len, 4));
            let qkv = beside([&q, &k, &v], width);
            for mask in masks(&shape) {
                let (mask, what) = (mask.as_deref(), format!("{isa:?} {shape:?} mask {mask:?}"));
                let (mut out, mut lse) = (vec![f32::NAN; len], vec![f32::NAN; rows * shape.heads]);
                attention(&q, &k, &v, mask, &shape, &mut out, Some(&mut lse));
                let (mut out_beside, mut lse_beside) =
                    (vec![f32::NAN; len], vec![f32::NAN; rows * shape.heads]);
                let mut kept = vec![f32::NAN; self_attention_kept_len(&shape)];
                let lse_of_beside = Some(&mut lse_beside[..]);
                self_attention(&qkv, mask, &shape, &mut out_beside, lse_of_beside, Some(&mut kept));
                assert_eq!((&out, &lse), (&out_beside, &lse_beside), "{what}");

                let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![f32::NAN; len]);
                attention_backward(&q, &k, &v, &out, &lse, &dout, mask, &shape, &mut dq, &mut dk, &mut dv);
                let mut dqkv = vec![f32::NAN; 3 * len];
                let mut backward = |inputs| {
                    dqkv.fill(f32::NAN);
                    self_attention_backward(inputs, &out, &lse, &dout, mask, &shape, &mut dqkv);
                    dqkv.clone()
                };
                let whole = backward(SelfAttentionInputs::Whole(&qkv));
                assert_eq!(whole, beside([&dq, &dk, &dv], width), "{what}");
                let rounded: Vec<f32> = qkv.iter().map(|&x| reference::round_to_bf16(x) as f32).collect();
                let of_rounded = backward(SelfAttentionInputs::Whole(&rounded));
                assert_eq!(backward(SelfAttentionInputs::Kept(&kept)), of_rounded, "{what}, kept");
            }
        }
    });
}
