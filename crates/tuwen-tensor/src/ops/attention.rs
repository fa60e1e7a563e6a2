//! Multi-head attention: self, causal and cross, with an optional key mask.

use tuwen_kernels::{AttentionShape, Dropout, Precision};

use crate::Tensor;
use crate::device::StepBuffers;
use crate::tape::{needs_tape, record};

/// Which keys a query sees.
#[derive(Clone, Copy, Default)]
pub struct AttentionMask<'a> {
    /// Only keys up to the query's own position, counted from the end when there are more keys than queries.
    pub causal: bool,
    /// `[batch, keys]`, true where a key may be seen by every query of that row.
    pub keys: Option<&'a [bool]>,
    /// What is left out of the probabilities at random.
    pub dropout: Dropout,
}

impl AttentionMask<'_> {
    /// The mask of a decoder.
    pub const CAUSAL: Self = Self { causal: true, keys: None, dropout: Dropout { rate: 0.0, seed: 0 } };
}

/// The attention of queries to keys of these shapes.
pub(super) fn shape(
    q: &[usize; 3],
    k: &[usize; 3],
    heads: usize,
    mask: &AttentionMask,
    precision: Precision,
) -> AttentionShape {
    let ([batch, query_len, width], [key_batch, key_len, key_width]) = (*q, *k);
    assert!(
        batch == key_batch && width == key_width && width % heads == 0,
        "attention of queries {q:?} to keys {k:?} with {heads} heads"
    );
    assert!(mask.keys.is_none_or(|m| m.len() == batch * key_len), "a key mask holds batch * keys values");
    let head_dim = width / heads;
    let scale = (head_dim as f32).sqrt().recip();
    let &AttentionMask { causal, dropout, .. } = mask;
    AttentionShape { batch, heads, head_dim, query_len, key_len, scale, causal, precision, dropout }
}

/// `softmax(q kᵀ / √head_dim) v` for each head.
///
/// Shapes: q `[batch, queries, width]`, k and v `[batch, keys, width]`, heads side by side in `width`; the result
/// is shaped as q. A query that may see no key gets zeros.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    mask: AttentionMask,
    precision: Precision,
) -> Tensor {
    assert_eq!(k.shape(), v.shape(), "keys and values are shaped alike");
    let shape = shape(&q.dims(), &k.dims(), heads, &mask, precision.of_activations());
    let device = q.device();
    let (out, lse) = device.attention(q.buffer(), k.buffer(), v.buffer(), mask.keys, &shape);
    let out = Tensor::from_buffer(device, out, q.shape());
    if !needs_tape(&[q, k, v]) {
        return out;
    }
    let saved = [q.detach(), k.detach(), v.detach()];
    let (saved_out, keys) = (out.clone(), mask.keys.map(<[bool]>::to_vec));
    record(out, &[q, k, v], move |dout| {
        let inputs = [saved[0].buffer(), saved[1].buffer(), saved[2].buffer()];
        let gradients = device.attention_backward(
            inputs,
            saved_out.buffer(),
            &lse,
            dout.buffer(),
            keys.as_deref(),
            &shape,
        );
        let with_shape =
            |(gradient, input): (_, &Tensor)| Tensor::from_buffer(device, gradient, input.shape());
        gradients.into_iter().zip(&saved).map(with_shape).map(Some).collect()
    })
}

/// Keys and values of the tokens of one step of writing.
#[derive(Clone, Copy)]
pub struct StepStates<'a> {
    /// `[rows, tokens, width]` each.
    pub keys_values: [&'a Tensor; 2],
    /// The row that belongs to each of the sequences that ask now.
    pub rows: &'a [u32],
}

/// Causal [`attention`] of the next tokens of sequences to those of all steps one after the other, of which theirs are the
/// last; not recorded.
///
/// Shapes: q and result `[batch, queries, width]`.
pub fn attention_to_steps<'a>(
    q: &Tensor,
    steps: &[StepStates<'a>],
    heads: usize,
    precision: Precision,
) -> Tensor {
    let buffers = |step: &StepStates<'a>| StepBuffers {
        keys_values: step.keys_values.map(Tensor::buffer),
        tokens: step.keys_values[0].shape()[1],
        rows: step.rows,
    };
    let steps: Vec<StepBuffers> = steps.iter().map(buffers).collect();
    let [batch, _, width] = q.dims();
    let keys = [batch, steps.iter().map(|step| step.tokens).sum(), width];
    let shape = shape(&q.dims(), &keys, heads, &AttentionMask::CAUSAL, precision.of_activations());
    Tensor::from_buffer(q.device(), q.device().attention_to_steps(q.buffer(), &steps, &shape), q.shape())
}

/// The attention probabilities `[batch, heads, queries, keys]`; not recorded.
pub fn attention_weights(q: &Tensor, k: &Tensor, heads: usize, mask: AttentionMask) -> Tensor {
    let shape = shape(&q.dims(), &k.dims(), heads, &mask, Precision::F32);
    let weights = q.device().attention_weights(q.buffer(), k.buffer(), mask.keys, &shape);
    Tensor::from_buffer(q.device(), weights, &[shape.batch, heads, shape.query_len, shape.key_len])
}
