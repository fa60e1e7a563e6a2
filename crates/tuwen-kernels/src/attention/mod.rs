//! Multi-head attention. A task is one head of one sequence; its products use the tiles of the matrix product.
//!
//! Heads are packed straight from the projections, `[batch, length, heads · dim]`, so that nothing is permuted in memory
//! before or after. The scores of up to 112 queries stay in the second-level cache between the two products, and their
//! softmax runs there; the matrix of all scores never exists. Training keeps one number for each row of scores, the log
//! of its sum, and the backward pass computes the probabilities again from it, and what dropout left out of them by its seed.
//! The limit is the products for long sequences, and the exponentials for short heads. For a few queries ([`few`]) keys and
//! values are packed some at a time, and for the next token of a text ([`steps`]) not at all.

mod few;
mod head;
mod shape;
mod steps;
mod tasks;

use std::ops::Range;

use few::{Few, Rows};
use head::Head;
pub use shape::AttentionShape;
pub use steps::{Step, attention_to_steps};
use tasks::{Backward, Forward, Inputs, Weights};

use crate::aligned::Scratch;
use crate::bf16;
use crate::gemm::dispatch_in;
use crate::threads::{CHUNK, SendPtr, WORTH_SHARING, parallel_chunks_mut, parallel_for_work, threads};

/// Attention of `q [batch, queries, heads · dim]` over `k` and `v [batch, keys, heads · dim]`. `key_mask
/// [batch, keys]` is true where a key may be seen. `lse [batch, heads, queries]` receives the log of the sum of
/// exponentials of each row of scores. A row with nothing to attend gives zeros.
pub fn attention(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    shape.check(
        "attention",
        &[q.len(), out.len()],
        &[k.len(), v.len()],
        key_mask,
        lse.as_ref().map(|l| l.len()),
    );
    if few::are_few(shape) {
        return forward_few(q, [k, v].map(Rows::F32), key_mask, shape, out, lse);
    }
    forward([q, k, v], shape.width(), key_mask, shape, out, lse, None);
}

/// How many elements hold so many numbers in bf16, two of which share an element.
pub fn bf16_len(numbers: usize) -> usize {
    numbers.div_ceil(2)
}

/// Rounds `x` to bf16: `rounded`, of [`bf16_len`] elements, is what [`attention_to_bf16`] takes.
pub fn round_to_bf16(x: &[f32], rounded: &mut [f32]) {
    assert_eq!(rounded.len(), bf16_len(x.len()), "round_to_bf16: room for {} numbers", x.len());
    parallel_chunks_mut(bf16::halves_mut(rounded), CHUNK, |i, rounded| {
        let x = &x[i * CHUNK..];
        bf16::round(x, rounded);
    });
}

/// The numbers of [`round_to_bf16`], `x.len()` of them.
pub fn widen_from_bf16(rounded: &[f32], x: &mut [f32]) {
    assert_eq!(rounded.len(), bf16_len(x.len()), "widen_from_bf16: {} numbers", x.len());
    bf16::widen(bf16::halves(rounded), x);
}

/// [`attention`] to keys and values that [`round_to_bf16`] gave.
pub fn attention_to_bf16(
    q: &[f32],
    [k, v]: [&[f32]; 2],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    let len = shape.batch * shape.key_len * shape.width();
    let fits = [k, v].iter().all(|kept| kept.len() == bf16_len(len));
    assert!(fits, "attention_to_bf16: keys and values of {shape:?}");
    if few::are_few(shape) {
        shape.check("attention_to_bf16", &[q.len(), out.len()], &[], key_mask, lse.as_ref().map(|l| l.len()));
        let rows = [k, v].map(|kept| Rows::Bf16(bf16::halves(kept)));
        return forward_few(q, rows, key_mask, shape, out, lse);
    }
    let [mut wide_k, mut wide_v] = [Scratch::take(len), Scratch::take(len)];
    widen_from_bf16(k, &mut wide_k);
    widen_from_bf16(v, &mut wide_v);
    attention(q, &wide_k, &wide_v, key_mask, shape, out, lse);
}

/// Attention of checked inputs with few queries. A task is some heads of a sequence, so that there are enough for all
/// threads; their columns stand together in a row.
fn forward_few(
    q: &[f32],
    [k, v]: [Rows; 2],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    let out = SendPtr(out.as_mut_ptr());
    let lse = lse.map(|lse| SendPtr(lse.as_mut_ptr()));
    let groups = groups_of_heads(shape);
    let multiply_adds = 2 * shape.batch * shape.query_len * shape.key_len * shape.width();
    parallel_for_work(shape.batch * groups, multiply_adds, WORTH_SHARING, |task| {
        let (sequence, heads) = (task / groups, heads_of_group(shape, task % groups, groups));
        if !heads.is_empty() {
            dispatch_in(shape.precision, Few { shape, sequence, heads, q, k, v, key_mask, out, lse });
        }
    });
}

/// Groups of heads that are tasks of their own: where sequences alone are not a task for each thread.
fn groups_of_heads(shape: &AttentionShape) -> usize {
    match threads() {
        threads if shape.batch.is_multiple_of(threads) => 1,
        threads => threads.min(shape.heads),
    }
}

fn heads_of_group(shape: &AttentionShape, group: usize, groups: usize) -> Range<usize> {
    shape.heads * group / groups..shape.heads * (group + 1) / groups
}

/// How many elements hold what [`self_attention`] keeps: queries, keys and values in bf16, two of which share an element.
pub fn self_attention_kept_len(shape: &AttentionShape) -> usize {
    (3 * shape.batch * shape.key_len * shape.width()).div_ceil(2)
}

/// [`attention`] of sequences to themselves: queries, keys and values stand side by side in
/// `qkv [batch, tokens, 3 · heads · dim]`, as one product with three weights makes them. `kept`, of
/// [`self_attention_kept_len`] elements, receives them for the backward pass.
pub fn self_attention(
    qkv: &[f32],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
    kept: Option<&mut [f32]>,
) {
    let len = shape.check_self("self_attention", &[qkv.len()]);
    shape.check("self_attention", &[out.len()], &[len], key_mask, lse.as_ref().map(|l| l.len()));
    let fits = kept.as_ref().is_none_or(|kept| kept.len() == self_attention_kept_len(shape));
    assert!(fits, "self_attention: what is kept of {shape:?}");
    forward(shape.sides(qkv), 3 * shape.width(), key_mask, shape, out, lse, kept.map(bf16::halves_mut));
}

/// Attention of checked inputs whose rows are `stride` apart.
fn forward(
    [q, k, v]: [&[f32]; 3],
    stride: usize,
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
    kept: Option<&mut [u16]>,
) {
    let out = SendPtr(out.as_mut_ptr());
    let lse = lse.map(|lse| SendPtr(lse.as_mut_ptr()));
    let kept = kept.map(|kept| SendPtr(kept.as_mut_ptr()));
    let of_head = 3 * shape.key_len * shape.head_dim;
    shape.for_each_head(2, |index| {
        let head = Head::new(shape, index, key_mask);
        // SAFETY: the rows of this head in `lse`, which was checked.
        let lse = lse.as_ref().map(|lse| unsafe { lse.slice(index * shape.query_len, shape.query_len) });
        let forward = Forward {
            q: head.queries(q, stride),
            k: head.keys(k, stride),
            v: head.keys(v, stride),
            out: head.target(out, shape.width()),
            lse,
            // SAFETY: each head has its own part, and the length was checked.
            kept: kept.as_ref().map(|kept| unsafe { kept.slice(index * of_head, of_head) }),
            head,
        };
        dispatch_in(shape.precision, forward);
    });
}

/// Gradients of [`attention`] from its results `out` and `lse`; `dq`, `dk` and `dv` are overwritten.
pub fn attention_backward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let queries = [q.len(), out.len(), dout.len(), dq.len()];
    let keys = [k.len(), v.len(), dk.len(), dv.len()];
    shape.check("attention_backward", &queries, &keys, key_mask, Some(lse.len()));
    let gradients = [dq, dk, dv].map(|gradient| SendPtr(gradient.as_mut_ptr()));
    let width = shape.width();
    let inputs = |head: &Head, _| Inputs::Whole(head.sides([q, k, v], width));
    backward(inputs, width, [out, lse, dout], key_mask, shape, gradients);
}

/// Queries, keys and values of a self-attention.
#[derive(Debug, Clone, Copy)]
pub enum SelfAttentionInputs<'a> {
    /// Side by side, as [`self_attention`] took them.
    Whole(&'a [f32]),
    /// As it kept them.
    Kept(&'a [f32]),
}

/// Gradient of [`self_attention`]; `dqkv` is overwritten.
pub fn self_attention_backward(
    inputs: SelfAttentionInputs,
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    dqkv: &mut [f32],
) {
    let len = shape.check_self("self_attention_backward", &[dqkv.len()]);
    let fits = match inputs {
        SelfAttentionInputs::Whole(qkv) => qkv.len() == dqkv.len(),
        SelfAttentionInputs::Kept(kept) => kept.len() == self_attention_kept_len(shape),
    };
    assert!(fits, "self_attention_backward: the inputs of {shape:?}");
    let outputs = [out.len(), dout.len()];
    shape.check("self_attention_backward", &outputs, &[len], key_mask, Some(lse.len()));
    let side = |i: usize| SendPtr(dqkv.as_mut_ptr().wrapping_add(i * shape.width()));
    let gradients = [0, 1, 2].map(side);
    let stride = 3 * shape.width();
    match inputs {
        SelfAttentionInputs::Whole(qkv) => {
            let sides = shape.sides(qkv);
            let inputs = |head: &Head, _| Inputs::Whole(head.sides(sides, stride));
            backward(inputs, stride, [out, lse, dout], key_mask, shape, gradients);
        }
        SelfAttentionInputs::Kept(kept) => {
            let of_head = 3 * shape.key_len * shape.head_dim;
            let inputs = |_: &Head, index| Inputs::Kept(&bf16::halves(kept)[index * of_head..][..of_head]);
            backward(inputs, stride, [out, lse, dout], key_mask, shape, gradients);
        }
    }
}

/// Gradients of checked inputs, which each head finds by its number; the rows of the gradients are `stride` apart.
fn backward<'a>(
    inputs: impl Fn(&Head, usize) -> Inputs<'a> + Sync,
    stride: usize,
    [out, lse, dout]: [&[f32]; 3],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    [dq, dk, dv]: [SendPtr<f32>; 3],
) {
    let width = shape.width();
    shape.for_each_head(5, |index| {
        let head = Head::new(shape, index, key_mask);
        let backward = Backward {
            inputs: inputs(&head, index),
            out: head.queries(out, width),
            dout: head.queries(dout, width),
            lse: &lse[index * shape.query_len..][..shape.query_len],
            dq: head.target(dq, stride),
            dk: head.key_target(dk, stride),
            dv: head.key_target(dv, stride),
            head,
        };
        dispatch_in(shape.precision, backward);
    });
}

/// The attention probabilities `[batch, heads, queries, keys]`.
pub fn attention_weights(
    q: &[f32],
    k: &[f32],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    weights: &mut [f32],
) {
    shape.check("attention_weights", &[q.len()], &[k.len()], key_mask, None);
    let plane = shape.query_len * shape.key_len;
    assert_eq!(
        weights.len(),
        shape.batch * shape.heads * plane,
        "attention_weights: the weights of {shape:?}"
    );
    let weights = SendPtr(weights.as_mut_ptr());
    shape.for_each_head(1, |index| {
        let head = Head::new(shape, index, key_mask);
        // SAFETY: the plane of this head.
        let weights = unsafe { weights.slice(index * plane, plane) };
        let (q, k) = (head.queries(q, shape.width()), head.keys(k, shape.width()));
        dispatch_in(shape.precision, Weights { q, k, weights, head });
    });
}
