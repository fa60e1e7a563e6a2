//! Attention of the next tokens of texts to those before, whose keys and values stay where each step made them.
//!
//! Nothing is copied when a text grows, nor when texts go on from others: which row of a step belongs to which text is a
//! number. The texts are short, and their keys in the cache, so that packing would be more work than the products.

use std::ops::Range;

use super::AttentionShape;
use super::head::Head;
use super::{groups_of_heads, heads_of_group};
use crate::aligned::Scratch;
use crate::gemm::{Kernel, OwnProduct, OwnTask, dispatch_in};
use crate::math::{LANES, sum_of};
use crate::threads::{SendPtr, WORTH_SHARING, parallel_for_work};

/// Keys and values `[rows, tokens, heads · dim]` of the tokens of a step.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// What queries are compared with.
    pub keys: &'a [f32],
    /// What they get.
    pub values: &'a [f32],
    /// Tokens of each row.
    pub tokens: usize,
    /// The row that belongs to each of the sequences that ask now.
    pub rows: &'a [u32],
}

/// Attention of `q [batch, queries, heads · dim]` to the tokens of all steps one after the other, which are `key_len` together.
///
/// # Panics
/// If lengths differ from those of `shape`, or a row is not among those of its step.
pub fn attention_to_steps(q: &[f32], steps: &[Step], shape: &AttentionShape, out: &mut [f32]) {
    shape.check("attention_to_steps", &[q.len(), out.len()], &[], None, None);
    let tokens: usize = steps.iter().map(|step| step.tokens).sum();
    let rows =
        steps.iter().all(|step| step.rows.len() == shape.batch && step.keys.len() == step.values.len());
    assert!(rows && tokens == shape.key_len, "attention_to_steps: {tokens} tokens of {shape:?}");
    if out.is_empty() {
        return;
    }
    let out = SendPtr(out.as_mut_ptr());
    let groups = groups_of_heads(shape);
    let multiply_adds = 2 * shape.batch * shape.query_len * shape.key_len * shape.width();
    parallel_for_work(shape.batch * groups, multiply_adds, WORTH_SHARING, |task| {
        let (sequence, heads) = (task / groups, heads_of_group(shape, task % groups, groups));
        if !heads.is_empty() {
            dispatch_in(shape.precision, ToSteps { shape, sequence, heads, q, steps, out });
        }
    });
}

/// Rows of values that are added to a result together.
const ROWS: usize = 4;

/// Some heads of one sequence.
struct ToSteps<'a> {
    shape: &'a AttentionShape,
    sequence: usize,
    heads: Range<usize>,
    q: &'a [f32],
    steps: &'a [Step<'a>],
    out: SendPtr<f32>,
}

impl<'a> ToSteps<'a> {
    /// The columns of these heads in row `row` of all tokens or queries.
    fn columns(&self, row: usize) -> Range<usize> {
        let (width, dim) = (self.shape.width(), self.shape.head_dim);
        row * width + self.heads.start * dim..row * width + self.heads.end * dim
    }

    /// Keys or values of this sequence.
    fn rows(&self, side: impl Fn(&Step<'a>) -> &'a [f32]) -> Vec<&'a [f32]> {
        let of_step = |step: &Step<'a>| {
            let (data, first) = (side(step), step.rows[self.sequence] as usize * step.tokens);
            (first..first + step.tokens).map(move |row| (data, row))
        };
        self.steps.iter().flat_map(of_step).map(|(data, row)| &data[self.columns(row)]).collect()
    }

    /// The products of a query and the keys: `scores [heads, stride]`.
    #[inline(always)]
    fn multiply_keys(&self, query: &[f32], keys: &[&[f32]], scores: &mut [f32], stride: usize) {
        let dim = self.shape.head_dim;
        for (j, key) in keys.iter().enumerate() {
            let heads = query.chunks_exact(dim).zip(key.chunks_exact(dim));
            for (head, (query, key)) in heads.enumerate() {
                scores[head * stride + j] = sum_of([query, key], |[q, k]| q * k);
            }
        }
    }

    /// Adds values, each times its number of `weights [heads, stride]`, to a row of the result.
    #[inline(always)]
    fn add_values(&self, weights: &[f32], stride: usize, values: &[&[f32]], out: &mut [f32]) {
        let dim = self.shape.head_dim;
        for (first, rows) in (0..).step_by(ROWS).zip(values.chunks(ROWS)) {
            // Where fewer are left, the last one is read again and counts nothing.
            let row = |i: usize| rows[i.min(rows.len() - 1)];
            for (head, out) in out.chunks_exact_mut(dim).enumerate() {
                let weights = &weights[head * stride..][..values.len()];
                let weight = |i| weights.get(first + i).copied().unwrap_or(0.0);
                let rows = std::array::from_fn(|i| &row(i)[head * dim..][..dim]);
                add_rows(out, std::array::from_fn(weight), rows);
            }
        }
    }
}

/// Adds rows to a sum, each times its weight.
#[inline(always)]
fn add_rows(sum: &mut [f32], weights: [f32; ROWS], rows: [&[f32]; ROWS]) {
    let add = |sum: f32, row: [f32; ROWS]| {
        sum + weights[0] * row[0] + weights[1] * row[1] + weights[2] * row[2] + weights[3] * row[3]
    };
    // Of a known length, because shorter loops than LLVM unrolls are left to single numbers.
    let (lanes, rest) = sum.as_chunks_mut::<LANES>();
    let (whole, left) =
        (rows.map(|row| row.as_chunks::<LANES>().0), rows.map(|row| row.as_chunks::<LANES>().1));
    for (i, sum) in lanes.iter_mut().enumerate() {
        let rows = whole.map(|row| &row[i]);
        *sum = std::array::from_fn(|lane| add(sum[lane], rows.map(|row| row[lane])));
    }
    for (i, sum) in rest.iter_mut().enumerate() {
        *sum = add(*sum, left.map(|row| row[i]));
    }
}

impl OwnTask for ToSteps<'_> {
    #[inline(always)]
    unsafe fn run<K: Kernel, P: OwnProduct>(self) {
        let shape = self.shape;
        let number = |head: usize| self.sequence * shape.heads + head;
        let heads: Vec<Head> = self.heads.clone().map(|head| Head::new(shape, number(head), None)).collect();
        let stride = heads[0].padded();
        let (keys, values) = (self.rows(|step| step.keys), self.rows(|step| step.values));
        let mut scores = Scratch::take(heads.len() * stride);
        for i in 0..shape.query_len {
            let columns = self.columns(self.sequence * shape.query_len + i);
            self.multiply_keys(&self.q[columns.clone()], &keys, &mut scores, stride);
            // SAFETY: these columns of a row of the result, whose length was checked, are this task's.
            let out = unsafe { self.out.slice(columns.start, columns.len()) };
            out.fill(0.0);
            let rows = scores.chunks_exact_mut(stride.max(1));
            let factors: Vec<f32> =
                heads.iter().zip(rows).map(|(head, row)| head.exponentials::<P>(i, row).0).collect();
            self.add_values(&scores, stride, &values, out);
            for (values, factor) in out.chunks_exact_mut(shape.head_dim).zip(factors) {
                values.iter_mut().for_each(|value| *value *= factor);
            }
        }
    }
}
