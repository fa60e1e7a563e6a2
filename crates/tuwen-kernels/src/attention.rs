//! Multi-head attention. A task is one head of one sequence; its products use the tiles of the matrix product.
//!
//! Heads are packed straight from the projections, `[batch, length, heads · dim]`, so that nothing is permuted in memory
//! before or after. The scores of up to 112 queries stay in the second-level cache between the two products, and their
//! softmax runs there; the matrix of all scores never exists. Training keeps one number for each row of scores, the log
//! of its sum, and the backward pass computes the probabilities again from it. The limit is the products for long sequences,
//! and the exponentials for short heads.

use crate::aligned::Scratch;
use crate::gemm::{Kernel, MatRef, OwnProduct, OwnTask, Target, dispatch_in};
use crate::math::{LANES, exp, max, sum_of};
use crate::precision::Precision;
use crate::threads::{SendPtr, WORTH_SHARING, parallel_for_work};

/// Sizes and options of an attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Number of sequences.
    pub batch: usize,
    /// Number of heads.
    pub heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Queries per sequence.
    pub query_len: usize,
    /// Keys and values per sequence.
    pub key_len: usize,
    /// Factor of the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Whether query i sees only keys up to `i + key_len - query_len`.
    pub causal: bool,
    /// What queries, keys, probabilities and values are multiplied in.
    pub precision: Precision,
}

impl AttentionShape {
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Checks the lengths of tensors over queries and over keys, of the mask, and of one number per row of scores.
    fn check(
        &self,
        operation: &str,
        queries: &[usize],
        keys: &[usize],
        key_mask: Option<&[bool]>,
        lse: Option<usize>,
    ) {
        let (query_len, key_len) =
            (self.batch * self.query_len * self.width(), self.batch * self.key_len * self.width());
        assert!(queries.iter().all(|&len| len == query_len), "{operation}: tensors over queries of {self:?}");
        assert!(keys.iter().all(|&len| len == key_len), "{operation}: tensors over keys of {self:?}");
        let keys = self.batch * self.key_len;
        assert!(key_mask.is_none_or(|mask| mask.len() == keys), "{operation}: the key mask of {self:?}");
        let rows = self.batch * self.heads * self.query_len;
        assert!(lse.is_none_or(|len| len == rows), "{operation}: lse of {self:?}");
    }

    /// Checks the lengths of tensors of queries, keys and values side by side; gives that of one of the three.
    fn check_self(&self, operation: &str, sides: &[usize]) -> usize {
        assert_eq!(self.query_len, self.key_len, "{operation}: a query for each key");
        let len = self.batch * self.key_len * self.width();
        assert!(
            sides.iter().all(|&side| side == 3 * len),
            "{operation}: queries, keys and values of {self:?}"
        );
        len
    }

    /// Queries, keys and values that stand side by side, each from its first number on.
    fn sides<'a>(&self, qkv: &'a [f32]) -> [&'a [f32]; 3] {
        [0, 1, 2].map(|side| qkv.get(side * self.width()..).unwrap_or_default())
    }

    /// Calls `f` with the number of each head of each sequence; `products` are those of queries, keys and elements.
    fn for_each_head(&self, products: usize, f: impl Fn(usize) + Sync) {
        let heads = self.batch * self.heads;
        let multiply_adds = products * heads * self.query_len * self.key_len * self.head_dim;
        parallel_for_work(heads, multiply_adds, WORTH_SHARING, f);
    }

    /// How many keys query `i` sees.
    fn visible(&self, i: usize) -> usize {
        if self.causal {
            (i + 1 + self.key_len).saturating_sub(self.query_len).min(self.key_len)
        } else {
            self.key_len
        }
    }
}

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
    forward([q, k, v], shape.width(), key_mask, shape, out, lse);
}

/// [`attention`] of sequences to themselves: queries, keys and values stand side by side in
/// `qkv [batch, tokens, 3 · heads · dim]`, as one product with three weights makes them.
pub fn self_attention(
    qkv: &[f32],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    let len = shape.check_self("self_attention", &[qkv.len()]);
    shape.check("self_attention", &[out.len()], &[len], key_mask, lse.as_ref().map(|l| l.len()));
    forward(shape.sides(qkv), 3 * shape.width(), key_mask, shape, out, lse);
}

/// Attention of checked inputs whose rows are `stride` apart.
fn forward(
    [q, k, v]: [&[f32]; 3],
    stride: usize,
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    let out = SendPtr(out.as_mut_ptr());
    let lse = lse.map(|lse| SendPtr(lse.as_mut_ptr()));
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
    backward([q, k, v], shape.width(), [out, lse, dout], key_mask, shape, gradients);
}

/// Gradient of [`self_attention`]; `dqkv` is overwritten.
pub fn self_attention_backward(
    qkv: &[f32],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    dqkv: &mut [f32],
) {
    let len = shape.check_self("self_attention_backward", &[qkv.len(), dqkv.len()]);
    let outputs = [out.len(), dout.len()];
    shape.check("self_attention_backward", &outputs, &[len], key_mask, Some(lse.len()));
    let side = |i: usize| SendPtr(dqkv.as_mut_ptr().wrapping_add(i * shape.width()));
    let gradients = [0, 1, 2].map(side);
    backward(shape.sides(qkv), 3 * shape.width(), [out, lse, dout], key_mask, shape, gradients);
}

/// Gradients of checked inputs whose rows, and those of their gradients, are `stride` apart.
fn backward(
    [q, k, v]: [&[f32]; 3],
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
            q: head.queries(q, stride),
            k: head.keys(k, stride),
            v: head.keys(v, stride),
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

/// One head of one sequence.
struct Head<'a> {
    shape: &'a AttentionShape,
    sequence: usize,
    column: usize,
    /// What is added to the scores of each key: zero, or negative infinity where it is masked.
    mask: Option<Vec<f32>>,
}

impl<'a> Head<'a> {
    fn new(shape: &'a AttentionShape, index: usize, key_mask: Option<&[bool]>) -> Self {
        let sequence = index / shape.heads;
        let mask = key_mask.map(|mask| {
            let mask = &mask[sequence * shape.key_len..][..shape.key_len];
            mask.iter().map(|&visible| if visible { 0.0 } else { f32::NEG_INFINITY }).collect()
        });
        Self { shape, sequence, column: index % shape.heads * shape.head_dim, mask }
    }

    fn start(&self, len: usize, stride: usize) -> usize {
        self.sequence * len * stride + self.column
    }

    fn matrix<'b>(&self, data: &'b [f32], len: usize, row_stride: usize) -> MatRef<'b> {
        let cols = self.shape.head_dim;
        let data = data.get(self.start(len, row_stride)..).unwrap_or_default(); // nothing where sequences are empty
        MatRef { data, rows: len, cols, row_stride, col_stride: 1 }
    }

    /// This head of a tensor over queries, whose rows are `stride` apart.
    fn queries<'b>(&self, data: &'b [f32], stride: usize) -> MatRef<'b> {
        self.matrix(data, self.shape.query_len, stride)
    }

    /// This head of a tensor over keys.
    fn keys<'b>(&self, data: &'b [f32], stride: usize) -> MatRef<'b> {
        self.matrix(data, self.shape.key_len, stride)
    }

    fn target(&self, data: SendPtr<f32>, stride: usize) -> Target {
        let start = SendPtr(data.get().wrapping_add(self.start(self.shape.query_len, stride)));
        Target { start, stride }
    }

    fn key_target(&self, data: SendPtr<f32>, stride: usize) -> Target {
        let start = SendPtr(data.get().wrapping_add(self.start(self.shape.key_len, stride)));
        Target { start, stride }
    }

    /// Length of a row of scores in working memory: whole lanes, because what is left over costs more than a lane.
    fn padded(&self) -> usize {
        self.shape.key_len.next_multiple_of(LANES)
    }

    /// Turns the products of query `i` and the keys into scores: negative infinity where a key is not seen, and in the
    /// padding if the row has one.
    #[inline(always)]
    fn score(&self, i: usize, products: &mut [f32]) {
        let scale = self.shape.scale;
        for s in products.iter_mut() {
            *s *= scale;
        }
        if let Some(mask) = &self.mask {
            for (s, mask) in products.iter_mut().zip(mask) {
                *s += mask;
            }
        }
        products[self.shape.visible(i)..].fill(f32::NEG_INFINITY);
    }

    /// Turns the products of query `i` and the keys into probabilities; the log of the sum of exponentials of the
    /// scores is returned, negative infinity of none.
    #[inline(always)]
    fn softmax(&self, i: usize, products: &mut [f32]) -> f32 {
        self.score(i, products);
        let largest = max(products);
        if largest == f32::NEG_INFINITY {
            products.fill(0.0);
            return largest;
        }
        for s in products.iter_mut() {
            *s = exp(*s - largest);
        }
        let total = sum_of([products], |[p]| p);
        let factor = 1.0 / total;
        for p in products.iter_mut() {
            *p *= factor;
        }
        largest + total.ln()
    }

    /// Turns the products of query `i` and the keys into exponentials of the scores' distances from the largest; with
    /// what makes probabilities of them, the log of the sum of exponentials of the scores is returned. One pass for the
    /// largest and one for all else: the rows of many keys are as much work as the products.
    #[inline(always)]
    fn exponentials<P: OwnProduct>(&self, i: usize, products: &mut [f32]) -> (f32, f32) {
        if let Some(mask) = &self.mask {
            for (s, mask) in products.iter_mut().zip(mask) {
                *s += mask;
            }
        }
        products[self.shape.visible(i)..].fill(f32::NEG_INFINITY);
        let largest = max(products);
        if largest == f32::NEG_INFINITY {
            products.fill(0.0);
            return (0.0, largest);
        }
        let scale = self.shape.scale;
        let mut sums = [0.0; LANES];
        // The rows are padded to whole lanes.
        for lanes in products.as_chunks_mut::<LANES>().0 {
            for (s, sum) in lanes.iter_mut().zip(&mut sums) {
                *s = P::exp((*s - largest) * scale);
                *sum += *s;
            }
        }
        let total = sum_of([&sums], |[sum]| sum);
        (1.0 / total, largest * scale + total.ln())
    }

    /// The probabilities again, from the log of the sum of exponentials.
    #[inline(always)]
    fn softmax_again(&self, i: usize, lse: f32, products: &mut [f32]) {
        self.score(i, products);
        if lse == f32::NEG_INFINITY {
            return products.fill(0.0);
        }
        for s in products {
            *s = exp(*s - lse);
        }
    }
}

/// Queries that are worked on together: their scores stay in the cache.
const QUERIES: usize = 112;

/// Some rows of a matrix.
fn rows_of(m: MatRef, from: usize, len: usize) -> MatRef {
    MatRef { data: &m.data[from * m.row_stride..], rows: len, ..m }
}

fn whole(data: &mut [f32], stride: usize) -> Target {
    Target { start: SendPtr(data.as_mut_ptr()), stride }
}

struct Forward<'a> {
    q: MatRef<'a>,
    k: MatRef<'a>,
    v: MatRef<'a>,
    out: Target,
    lse: Option<&'a mut [f32]>,
    head: Head<'a>,
}

impl OwnTask for Forward<'_> {
    #[inline(always)]
    unsafe fn run<K: Kernel, P: OwnProduct>(mut self) {
        let (queries, stride) = (self.q.rows, self.head.padded());
        let mut scores = Scratch::take(queries.min(QUERIES) * stride);
        // SAFETY: the products have the shapes of their targets, and this head of `out` is this task's.
        unsafe {
            let (k, v) = (P::pack::<K>(&self.k.t()), P::pack::<K>(&self.v));
            for first in (0..queries).step_by(QUERIES) {
                let len = QUERIES.min(queries - first);
                let scores = &mut scores[..len * stride];
                P::multiply::<K>(&rows_of(self.q, first, len), &k, whole(scores, stride));
                let mut factors = [0.0; QUERIES];
                for (i, factor) in factors[..len].iter_mut().enumerate() {
                    let (f, lse) =
                        self.head.exponentials::<P>(first + i, &mut scores[i * stride..][..stride]);
                    *factor = f;
                    if let Some(out) = &mut self.lse {
                        out[first + i] = lse;
                    }
                }
                let start = SendPtr(self.out.start.get().wrapping_add(first * self.out.stride));
                let scores =
                    MatRef { data: scores, rows: len, cols: self.k.rows, row_stride: stride, col_stride: 1 };
                P::multiply::<K>(&scores, &v, Target { start, ..self.out });
                for (i, factor) in factors[..len].iter().enumerate() {
                    for value in start.slice(i * self.out.stride, self.v.cols) {
                        *value *= factor;
                    }
                }
            }
        }
    }
}

struct Weights<'a> {
    q: MatRef<'a>,
    k: MatRef<'a>,
    weights: &'a mut [f32],
    head: Head<'a>,
}

impl OwnTask for Weights<'_> {
    #[inline(always)]
    unsafe fn run<K: Kernel, P: OwnProduct>(self) {
        let keys = self.k.rows;
        // SAFETY: the weights are [queries, keys].
        unsafe {
            let k = P::pack::<K>(&self.k.t());
            P::multiply::<K>(&self.q, &k, whole(self.weights, keys));
        }
        for (i, row) in self.weights.chunks_exact_mut(keys.max(1)).enumerate() {
            self.head.softmax(i, row);
        }
    }
}

struct Backward<'a> {
    q: MatRef<'a>,
    k: MatRef<'a>,
    v: MatRef<'a>,
    out: MatRef<'a>,
    dout: MatRef<'a>,
    lse: &'a [f32],
    dq: Target,
    dk: Target,
    dv: Target,
    head: Head<'a>,
}

impl OwnTask for Backward<'_> {
    #[inline(always)]
    unsafe fn run<K: Kernel, P: OwnProduct>(self) {
        let (queries, stride) = (self.q.rows, self.head.padded());
        let (mut p, mut ds) = (Scratch::take(queries * stride), Scratch::take(queries * stride));
        // SAFETY: the products have the shapes of their targets, and this head of the gradients is this task's.
        unsafe {
            P::multiply::<K>(&self.q, &P::pack::<K>(&self.k.t()), whole(&mut p, stride));
            P::multiply::<K>(&self.dout, &P::pack::<K>(&self.v.t()), whole(&mut ds, stride));
        }
        for i in 0..queries {
            let (p, ds) = (&mut p[i * stride..][..stride], &mut ds[i * stride..][..stride]);
            self.head.softmax_again(i, self.lse[i], p);
            let row = |m: &MatRef| i * m.row_stride..i * m.row_stride + m.cols;
            let (out, dout) = (&self.out.data[row(&self.out)], &self.dout.data[row(&self.dout)]);
            // The sum of p · dp over the row, as it comes out of the forward pass.
            let along = sum_of([out, dout], |[out, dout]| out * dout);
            let scale = self.head.shape.scale;
            for (ds, p) in ds.iter_mut().zip(p) {
                *ds = *p * (*ds - along) * scale;
            }
        }
        // SAFETY: as above.
        unsafe {
            let matrix =
                |data| MatRef { data, rows: queries, cols: self.k.rows, row_stride: stride, col_stride: 1 };
            let (p, ds) = (matrix(&p), matrix(&ds));
            P::multiply::<K>(&ds, &P::pack::<K>(&self.k), self.dq);
            P::multiply::<K>(&ds.t(), &P::pack::<K>(&self.q), self.dk);
            P::multiply::<K>(&p.t(), &P::pack::<K>(&self.dout), self.dv);
        }
    }
}
