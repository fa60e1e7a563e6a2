//! Definitions of products: matrices, convolution, attention, pooling.

use super::{Real, activate};
use crate::attention::AttentionShape;
use crate::conv::ConvShape;
use crate::gemm::Epilogue;

/// `a [m, k] · b [k, n]`.
pub fn gemm<R: Real>(a: &[R], b: &[R], m: usize, k: usize, n: usize) -> Vec<R> {
    (0..m * n).map(|i| (0..k).map(|l| a[i / n * k + l] * b[l * n + i % n]).sum()).collect()
}

/// What an epilogue makes of `product [m, n]`; `before` is what the target held.
pub fn epilogue<R: Real>(product: &[R], n: usize, before: &[R], epilogue: &Epilogue) -> Vec<R> {
    let &Epilogue { bias, activation, residual, residual_first, accumulate } = epilogue;
    let of = |values: Option<&[f32]>, i: usize| R::of(values.map_or(0.0, |values| f64::from(values[i])));
    let element = |(i, &product): (usize, &R)| {
        let old = if accumulate { before[i] } else { R::of(0.0) };
        let value = product + old + of(bias, i % n);
        if residual_first {
            activate(activation, value + of(residual, i))
        } else {
            activate(activation, value) + of(residual, i)
        }
    };
    product.iter().enumerate().map(element).collect()
}

/// Convolution of `x [batch, height, width, in]` with `weight [out, in, kernel, kernel]`.
pub fn conv2d<R: Real>(x: &[R], weight: &[R], shape: &ConvShape) -> Vec<R> {
    let &ConvShape { batch, height, width, in_channels, out_channels, kernel, stride, padding } = shape;
    let pixel = |image: usize, row: usize, column: usize, channel: usize| {
        let (row, column) = (row.checked_sub(padding)?, column.checked_sub(padding)?);
        (row < height && column < width)
            .then(|| x[((image * height + row) * width + column) * in_channels + channel])
    };
    let mut y = Vec::new();
    for image in 0..batch {
        for (row, column) in pairs(shape.out_height(), shape.out_width()) {
            for out in 0..out_channels {
                let mut sum = R::of(0.0);
                for (ky, kx) in pairs(kernel, kernel) {
                    for channel in 0..in_channels {
                        let w = weight[((out * in_channels + channel) * kernel + ky) * kernel + kx];
                        if let Some(x) = pixel(image, row * stride + ky, column * stride + kx, channel) {
                            sum += w * x;
                        }
                    }
                }
                y.push(sum);
            }
        }
    }
    y
}

/// The mean of each `k` by `k` window of `x [batch, height, width, channels]`.
pub fn avg_pool2d<R: Real>(
    x: &[R],
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    k: usize,
) -> Vec<R> {
    let mut y = Vec::new();
    for image in 0..batch {
        for (row, column) in pairs(height / k, width / k) {
            for channel in 0..channels {
                let at =
                    |dy, dx| ((image * height + row * k + dy) * width + column * k + dx) * channels + channel;
                y.push(pairs(k, k).map(|(dy, dx)| x[at(dy, dx)]).sum::<R>() / R::of((k * k) as f64));
            }
        }
    }
    y
}

/// Attention probabilities `[batch, heads, queries, keys]`; a row with nothing to attend is zero.
pub fn attention_weights<R: Real>(
    q: &[R],
    k: &[R],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
) -> Vec<R> {
    let &AttentionShape { batch, heads, head_dim, query_len, key_len, scale, causal, .. } = shape;
    let zero = R::of(0.0);
    let mut weights = Vec::new();
    for (image, head) in pairs(batch, heads) {
        for i in 0..query_len {
            let visible = |j: usize| {
                key_mask.is_none_or(|mask| mask[image * key_len + j])
                    && (!causal || j + query_len <= i + key_len)
            };
            let score = |j: usize| {
                let (qi, kj) = ((image * query_len + i) * heads + head, (image * key_len + j) * heads + head);
                let product: R = (0..head_dim).map(|d| q[qi * head_dim + d] * k[kj * head_dim + d]).sum();
                product * R::of(f64::from(scale))
            };
            let scores: Vec<_> = (0..key_len).map(|j| visible(j).then(|| score(j))).collect();
            let largest = scores.iter().flatten().copied().reduce(R::max).unwrap_or(zero);
            let exp: Vec<R> = scores.iter().map(|s| s.map_or(zero, |s| (s - largest).exp())).collect();
            let total: R = exp.iter().copied().sum();
            weights.extend(exp.iter().map(|&e| if total > zero { e / total } else { zero }));
        }
    }
    weights
}

/// Multi-head attention. Of the probabilities a part is left out; which, is the generator's to say.
pub fn attention<R: Real>(
    q: &[R],
    k: &[R],
    v: &[R],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
) -> Vec<R> {
    let &AttentionShape { batch, heads, head_dim, query_len, key_len, .. } = shape;
    let weights = attention_weights(q, k, key_mask, shape);
    let mut kept = vec![1.0; weights.len()];
    for (number, row) in kept.chunks_mut(key_len.max(1)).enumerate() {
        shape.dropout.leave_out_of_row(number, row);
    }
    let mut out = vec![R::of(0.0); batch * query_len * heads * head_dim];
    for (image, head) in pairs(batch, heads) {
        for (i, j) in pairs(query_len, key_len) {
            let place = ((image * heads + head) * query_len + i) * key_len + j;
            let weight = weights[place] * R::of(f64::from(kept[place]));
            for d in 0..head_dim {
                out[((image * query_len + i) * heads + head) * head_dim + d] +=
                    weight * v[((image * key_len + j) * heads + head) * head_dim + d];
            }
        }
    }
    out
}

fn pairs(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows * columns).map(move |i| (i / columns, i % columns))
}
