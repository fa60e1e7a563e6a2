//! Products: linear with all that is fused into it, convolution, pooling, attention.

use tuwen_kernels::reference;
use tuwen_tensor::{Activation, AttentionMask, AttentionShape, ConvShape, Dropout, Precision, Tensor, ops};

use super::elements::ACTIVATIONS;
use super::support::{assert_close, check, inputs};

/// `x · weightᵀ`, weight `[out, inner]`.
pub fn product(x: &[f64], weight: &[f64], inner: usize) -> Vec<f64> {
    let dot = |row: &[f64], weight: &[f64]| row.iter().zip(weight).map(|(x, w)| x * w).sum();
    x.chunks(inner).flat_map(|row| weight.chunks(inner).map(move |weight| dot(row, weight))).collect()
}

#[test]
fn linear() {
    for (leading, inner, weight) in [
        (&[][..], 3, &[2, 3][..]),
        (&[1], 1, &[1, 1]),
        (&[5], 7, &[3, 7]),
        (&[2, 3], 17, &[9, 17]),
        (&[3], 12, &[5, 3, 2, 2]), // a convolution over patches
        (&[0], 4, &[3, 4]),
    ] {
        let (x, out) = ([leading, &[inner]].concat(), weight[0]);
        let (y, bias) = ([leading, &[out]].concat(), [out]);
        for activation in ACTIVATIONS {
            for (has_bias, has_residual) in [(false, false), (true, false), (false, true), (true, true)] {
                let mut shapes: Vec<&[usize]> = vec![&x, weight];
                shapes.extend(has_bias.then_some(&bias[..]));
                shapes.extend(has_residual.then_some(&y[..]));
                let bias_at = has_bias.then_some(2);
                let residual_at = has_residual.then_some(2 + usize::from(has_bias));
                let what =
                    format!("{activation:?}({x:?} · {weight:?}), bias {has_bias}, residual {has_residual}");
                let op = |t: &[Tensor]| {
                    let (bias, residual) = (bias_at.map(|i| &t[i]), residual_at.map(|i| &t[i]));
                    ops::linear(&t[0], &t[1], bias, activation, residual)
                };
                let definition = |v: &[Vec<f64>]| {
                    let mut y = product(&v[0], &v[1], inner);
                    for (i, y) in y.iter_mut().enumerate() {
                        *y += bias_at.map_or(0.0, |at| v[at][i % out]);
                        *y = reference::activate(activation, *y) + residual_at.map_or(0.0, |at| v[at][i]);
                    }
                    y
                };
                check(&what, &inputs(&shapes), op, definition);
            }
        }
    }
}

#[test]
fn matmul_nt() {
    for (m, k, n) in [(1, 1, 1), (3, 5, 7), (17, 2, 4)] {
        let op = |t: &[Tensor]| ops::matmul_nt(&t[0], &t[1]);
        let definition = |v: &[Vec<f64>]| product(&v[0], &v[1], k);
        check(&format!("[{m}, {k}] · [{n}, {k}]ᵀ"), &inputs(&[&[m, k], &[n, k]]), op, definition);
    }
}

fn convolutions() -> Vec<ConvShape> {
    let shape =
        |batch, (height, width), (in_channels, out_channels), [kernel, stride, padding]: [usize; 3]| {
            ConvShape { batch, height, width, in_channels, out_channels, kernel, stride, padding }
        };
    vec![
        shape(2, (3, 5), (3, 4), [1, 1, 0]),
        shape(1, (5, 4), (2, 3), [3, 1, 1]),
        shape(2, (7, 6), (3, 2), [3, 2, 1]),
        shape(1, (6, 4), (3, 5), [2, 2, 0]),
        shape(1, (4, 6), (2, 2), [5, 3, 3]),
        shape(1, (5, 5), (2, 1), [1, 2, 0]),
    ]
}

fn conv_shapes(s: &ConvShape) -> [[usize; 4]; 3] {
    [
        [s.batch, s.height, s.width, s.in_channels],
        [s.out_channels, s.in_channels, s.kernel, s.kernel],
        [s.batch, s.out_height(), s.out_width(), s.out_channels],
    ]
}

#[test]
fn conv2d() {
    for shape in convolutions() {
        let [x, weight, y] = conv_shapes(&shape);
        let op = |t: &[Tensor]| {
            let result = ops::conv2d(&t[0], &t[1], shape.stride, shape.padding, None, None, false);
            assert_eq!(result.shape(), y);
            result
        };
        let definition = |v: &[Vec<f64>]| reference::conv2d(&v[0], &v[1], &shape);
        check(&format!("{shape:?}"), &inputs(&[&x, &weight]), op, definition);
    }
}

/// In inference, off the tape.
#[test]
fn conv2d_with_bias_residual_and_relu() {
    for shape in convolutions() {
        let [x, weight, y] = conv_shapes(&shape);
        let inputs = inputs(&[&x, &weight, &[shape.out_channels], &y]);
        let t: Vec<Tensor> = inputs.iter().map(|input| input.tensor()).collect();
        let product = reference::conv2d(&inputs[0].wide(), &inputs[1].wide(), &shape);
        for case in 0..8 {
            let (has_bias, has_residual, relu) = (case & 1 != 0, case & 2 != 0, case & 4 != 0);
            let bias =
                |i: usize| if has_bias { f64::from(inputs[2].values[i % shape.out_channels]) } else { 0.0 };
            let residual = |i: usize| if has_residual { f64::from(inputs[3].values[i]) } else { 0.0 };
            let activation = if relu { Activation::Relu } else { Activation::Identity };
            let value = |i: usize| reference::activate(activation, product[i] + bias(i) + residual(i));
            let expected: Vec<f64> = (0..product.len()).map(value).collect();
            let (bias, residual) = (has_bias.then_some(&t[2]), has_residual.then_some(&t[3]));
            let got = ops::conv2d(&t[0], &t[1], shape.stride, shape.padding, bias, residual, relu);
            assert_close(&format!("{shape:?}, case {case}"), &got.to_vec(), &expected);
        }
    }
}

#[test]
fn avg_pool2d() {
    for ([batch, height, width, channels], k) in
        [([1, 2, 2, 1], 2), ([2, 4, 6, 3], 2), ([1, 7, 5, 2], 2), ([1, 7, 7, 3], 3), ([2, 3, 2, 2], 1)]
    {
        let what = format!("{batch} of {height} by {width} with {channels} channels, by {k}");
        let definition = |v: &[Vec<f64>]| reference::avg_pool2d(&v[0], batch, height, width, channels, k);
        check(
            &what,
            &inputs(&[&[batch, height, width, channels]]),
            |t| ops::avg_pool2d(&t[0], k),
            definition,
        );
    }
}

/// Attention of each shape, causal or not, with no key mask, one with holes, and one that hides a sequence whole.
fn attentions() -> impl Iterator<Item = (AttentionShape, Option<Vec<bool>>)> {
    let sizes = [(1, 1, 1, 1, 1), (2, 3, 4, 5, 5), (1, 2, 3, 2, 7), (2, 1, 5, 4, 3), (3, 2, 8, 1, 6)];
    sizes.into_iter().flat_map(|(batch, heads, head_dim, query_len, key_len)| {
        (0..6).map(move |case| {
            let scale = (head_dim as f32).sqrt().recip();
            let causal = case % 2 == 1;
            let shape = AttentionShape {
                batch,
                heads,
                head_dim,
                query_len,
                key_len,
                scale,
                causal,
                precision: Precision::F32,
                dropout: Dropout { rate: 0.2, seed: 4 },
            };
            let keys = 0..batch * key_len;
            let mask = match case / 2 {
                0 => None,
                1 => Some(keys.map(|i| i % 3 != 1).collect()),
                _ => Some(keys.map(|i| i >= key_len).collect()),
            };
            (shape, mask)
        })
    })
}

#[test]
fn attention() {
    for (shape, keys) in attentions() {
        let &AttentionShape { batch, heads, head_dim, query_len, key_len, causal, dropout, .. } = &shape;
        let width = heads * head_dim;
        let (q, k) = ([batch, query_len, width], [batch, key_len, width]);
        let mask = AttentionMask { causal, keys: keys.as_deref(), dropout };
        let what = format!("{shape:?}, keys {keys:?}");
        let op = |t: &[Tensor]| ops::attention(&t[0], &t[1], &t[2], heads, mask, Precision::F32);
        let definition = |v: &[Vec<f64>]| reference::attention(&v[0], &v[1], &v[2], mask.keys, &shape);
        check(&what, &inputs(&[&q, &k, &k]), op, definition);

        let inputs = inputs(&[&q, &k]);
        let weights = ops::attention_weights(&inputs[0].tensor().leaf(), &inputs[1].tensor(), heads, mask);
        assert!(!weights.requires_grad() && weights.shape() == [batch, heads, query_len, key_len], "{what}");
        let expected = reference::attention_weights(&inputs[0].wide(), &inputs[1].wide(), mask.keys, &shape);
        assert_close(&what, &weights.to_vec(), &expected);
    }
}

/// Queries, keys and values from one tensor, as in a block: its gradient is the sum of three.
#[test]
fn attention_to_oneself() {
    let (heads, shape) = (2, [2, 5, 6]);
    for causal in [false, true] {
        let mask = AttentionMask { causal, keys: None, dropout: Dropout { rate: 0.1, seed: 2 } };
        let sizes = AttentionShape {
            batch: 2,
            heads,
            head_dim: 3,
            query_len: 5,
            key_len: 5,
            scale: 3_f32.sqrt().recip(),
            causal,
            precision: Precision::F32,
            dropout: mask.dropout,
        };
        let op = |t: &[Tensor]| ops::attention(&t[0], &t[0], &t[0], heads, mask, Precision::F32);
        let definition = |v: &[Vec<f64>]| reference::attention(&v[0], &v[0], &v[0], None, &sizes);
        check(&format!("causal {causal}"), &inputs(&[&shape]), op, definition);
    }
}

/// Rows with a bias added.
fn with_bias(mut y: Vec<f64>, bias: Option<&Vec<f64>>) -> Vec<f64> {
    if let Some(bias) = bias {
        y.iter_mut().zip(bias.iter().cycle()).for_each(|(y, bias)| *y += bias);
    }
    y
}

#[test]
fn mlp() {
    for ([rows, width, inner, out], biased) in
        [([1, 1, 1, 1], true), ([5, 3, 7, 2], true), ([4, 6, 5, 6], false)]
    {
        for activation in ACTIVATIONS {
            let shapes: &[&[usize]] =
                &[&[rows, width], &[inner, width], &[out, inner], &[rows, out], &[inner], &[out]];
            let shapes = if biased { shapes } else { &shapes[..4] };
            let op = |t: &[Tensor]| {
                let layer = |i| ops::Layer { weight: &t[i], bias: biased.then(|| &t[i + 3]) };
                ops::mlp(&t[0], layer(1), activation, layer(2), Some(&t[3]))
            };
            let definition = |v: &[Vec<f64>]| {
                let mut z = with_bias(product(&v[0], &v[1], width), v.get(4));
                z.iter_mut().for_each(|z| *z = reference::activate(activation, *z));
                let mut y = with_bias(product(&z, &v[2], inner), v.get(5));
                y.iter_mut().zip(&v[3]).for_each(|(y, residual)| *y += residual);
                y
            };
            let what = format!("{activation:?} mlp of {rows} rows, {width}, {inner}, {out}, biases {biased}");
            check(&what, &inputs(shapes), op, definition);
        }
    }
}

#[test]
fn self_attention() {
    let (batch, tokens, inner, width, heads) = (2, 5, 3, 6, 2);
    let mask: Vec<bool> = (0..batch * tokens).map(|i| i % 4 != 2).collect();
    // That of keys alone would have no gradient but rounding.
    let bias_of = |i: usize| [4, 4, 5][i - 1];
    for biased in [true, false] {
        for mask in [
            AttentionMask::default(),
            AttentionMask::CAUSAL,
            AttentionMask { keys: Some(&mask), ..Default::default() },
            AttentionMask { dropout: Dropout { rate: 0.3, seed: 9 }, ..AttentionMask::CAUSAL },
        ] {
            let (x, weight, bias) = ([batch, tokens, inner], [width, inner], [width]);
            let mut shapes: Vec<&[usize]> = vec![&x, &weight, &weight, &weight];
            shapes.extend(if biased { vec![&bias[..]; 2] } else { vec![] });
            let op = |t: &[Tensor]| {
                let layer = |i| ops::Layer { weight: &t[i], bias: biased.then(|| &t[bias_of(i)]) };
                ops::self_attention(&t[0], [layer(1), layer(2), layer(3)], heads, mask)
            };
            let shape = AttentionShape {
                batch,
                heads,
                head_dim: width / heads,
                query_len: tokens,
                key_len: tokens,
                scale: ((width / heads) as f32).sqrt().recip(),
                causal: mask.causal,
                precision: Precision::F32,
                dropout: mask.dropout,
            };
            let definition = |v: &[Vec<f64>]| {
                let [q, k, v] = [1, 2, 3].map(|i| with_bias(product(&v[0], &v[i], inner), v.get(bias_of(i))));
                reference::attention(&q, &k, &v, mask.keys, &shape)
            };
            let what = format!("self-attention, biases {biased}, causal {}", mask.causal);
            check(&what, &inputs(&shapes), op, definition);
        }
    }
}
