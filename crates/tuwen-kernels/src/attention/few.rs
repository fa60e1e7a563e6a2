//! Attention of a few queries, as a decoder asks them that writes token by token.
//!
//! To pack keys and values for the tiles would be more work than to multiply them. Here they are read once, row by row in
//! the order of memory, and each row serves all heads and all queries while it is in the cache: beams of an image cost
//! little more than one. The limit is the memory that keys and values come from.

use std::ops::Range;

use super::AttentionShape;
use super::head::Head;
use crate::aligned::Scratch;
use crate::bf16::widen_each;
use crate::gemm::{Kernel, OwnProduct, OwnTask};
use crate::math::sum_of;
use crate::threads::SendPtr;

/// At most so many queries of a sequence are few: with more, tiles are faster.
const FEW: usize = 6;

/// Whether [`Few`] takes them. Where there are no more keys than queries, a sequence may attend to itself, and that has the
/// same bits whichever function is called.
pub(super) fn are_few(shape: &AttentionShape) -> bool {
    (1..=FEW).contains(&shape.query_len) && shape.key_len > shape.query_len && shape.head_dim > 0
}

/// Rows of values that are added to a result together.
const ROWS: usize = 4;

/// Keys or values of all heads and sequences.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
}

impl<'a> Rows<'a> {
    /// Some of the numbers in f32, which have room in `wide`.
    #[inline(always)]
    fn get<'b>(self, columns: Range<usize>, wide: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        match self {
            Self::F32(data) => &data[columns],
            Self::Bf16(data) => {
                widen_each(&data[columns], wide);
                wide
            }
        }
    }
}

/// Some heads of one sequence.
pub(super) struct Few<'a> {
    pub(super) shape: &'a AttentionShape,
    pub(super) sequence: usize,
    pub(super) heads: Range<usize>,
    /// Of all heads and sequences.
    pub(super) q: &'a [f32],
    pub(super) k: Rows<'a>,
    pub(super) v: Rows<'a>,
    pub(super) key_mask: Option<&'a [bool]>,
    pub(super) out: SendPtr<f32>,
    pub(super) lse: Option<SendPtr<f32>>,
}

impl Few<'_> {
    /// Row `i` of this sequence, which has `len` of them: the columns of these heads, one after the other.
    #[inline(always)]
    fn columns(&self, i: usize, len: usize) -> Range<usize> {
        let (width, dim) = (self.shape.width(), self.shape.head_dim);
        let start = (self.sequence * len + i) * width + self.heads.start * dim;
        start..start + self.heads.len() * dim
    }

    /// The products of queries and keys: `scores [heads, queries, stride]`.
    #[inline(always)]
    fn multiply_keys(&self, scores: &mut [f32], stride: usize) {
        let &AttentionShape { query_len, key_len, head_dim, .. } = self.shape;
        let mut wide = Scratch::take(self.heads.len() * head_dim);
        for j in 0..key_len {
            let keys = self.k.get(self.columns(j, key_len), &mut wide);
            for i in 0..query_len {
                let queries = &self.q[self.columns(i, query_len)];
                let heads = queries.chunks_exact(head_dim).zip(keys.chunks_exact(head_dim));
                for (head, (query, key)) in heads.enumerate() {
                    scores[(head * query_len + i) * stride + j] = sum_of([query, key], |[q, k]| q * k);
                }
            }
        }
    }

    /// Adds values, each times its number of `weights [heads, queries, stride]`, to the rows of the result.
    #[inline(always)]
    fn add_values(&self, weights: &[f32], stride: usize, out: &mut [&mut [f32]]) {
        let &AttentionShape { query_len, key_len, head_dim, .. } = self.shape;
        let width = self.heads.len() * head_dim;
        let mut wide = Scratch::take(ROWS * width);
        for first in (0..key_len).step_by(ROWS) {
            // Where fewer are left, the last one is read again and counts nothing.
            let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
            for (i, (row, wide)) in rows.iter_mut().zip(wide.chunks_exact_mut(width)).enumerate() {
                *row = self.v.get(self.columns((first + i).min(key_len - 1), key_len), wide);
            }
            for (i, out) in out.iter_mut().enumerate() {
                for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
                    let weights = &weights[(head * query_len + i) * stride..][..key_len];
                    let weight = |row| weights.get(first + row).copied().unwrap_or(0.0);
                    let rows = rows.map(|row| &row[head * head_dim..][..head_dim]);
                    add_rows(out, std::array::from_fn(weight), rows);
                }
            }
        }
    }
}

/// Adds rows to a sum, each times its weight.
#[inline(always)]
fn add_rows(sum: &mut [f32], weights: [f32; ROWS], rows: [&[f32]; ROWS]) {
    let [a, b, c, d] = rows.map(|row| &row[..sum.len()]);
    for (i, sum) in sum.iter_mut().enumerate() {
        *sum = *sum + weights[0] * a[i] + weights[1] * b[i] + weights[2] * c[i] + weights[3] * d[i];
    }
}

impl OwnTask for Few<'_> {
    #[inline(always)]
    unsafe fn run<K: Kernel, P: OwnProduct>(self) {
        let shape = self.shape;
        let (queries, dim) = (shape.query_len, shape.head_dim);
        let number = |head: usize| self.sequence * shape.heads + head;
        let heads: Vec<Head> =
            self.heads.clone().map(|head| Head::new(shape, number(head), self.key_mask)).collect();
        let stride = heads[0].padded();
        let mut scores = Scratch::take(heads.len() * queries * stride);
        let mut out: Vec<&mut [f32]> = (0..queries)
            .map(|i| {
                let columns = self.columns(i, queries);
                // SAFETY: these columns of a row of the result, whose length was checked, are this task's.
                unsafe { self.out.slice(columns.start, columns.len()) }
            })
            .collect();
        out.iter_mut().for_each(|row| row.fill(0.0));
        self.multiply_keys(&mut scores, stride);
        let mut factors = Scratch::take(heads.len() * queries);
        for (h, (head, scores)) in
            heads.iter().zip(scores.chunks_exact_mut((queries * stride).max(1))).enumerate()
        {
            for (i, row) in scores.chunks_exact_mut(stride.max(1)).enumerate() {
                let (factor, lse) = head.exponentials::<P>(i, row);
                head.leave_out(i, row);
                factors[h * queries + i] = factor;
                if let Some(out) = &self.lse {
                    // SAFETY: the number of this row of scores, in `lse`, which was checked.
                    unsafe { out.slice(number(self.heads.start + h) * queries + i, 1)[0] = lse };
                }
            }
        }
        self.add_values(&scores, stride, &mut out);
        for (i, row) in out.into_iter().enumerate() {
            for (h, values) in row.chunks_exact_mut(dim).enumerate() {
                values.iter_mut().for_each(|value| *value *= factors[h * queries + i]);
            }
        }
    }
}
