//! Attention of a few queries to many keys, as a decoder asks them that writes about an image.
//!
//! Keys and values are packed as for the tiles of many queries, but some at a time: these stay in the cache for the products
//! that follow at once, and serve all queries, so that beams of an image cost little more than one. Those in bf16 are never
//! widened. The limit is the memory that keys and values come from.

use std::ops::Range;

use super::AttentionShape;
use super::head::Head;
use crate::aligned::Scratch;
use crate::gemm::{Kernel, MatRef, OwnProduct, OwnTask, Right, Target};
use crate::threads::SendPtr;

/// At most so many queries of a sequence are few: with more, keys and values are packed as a whole.
const FEW: usize = 6;

/// Whether [`Few`] takes them. Where there are no more keys than queries, a sequence may attend to itself, and that has the
/// same bits whichever function is called.
pub(super) fn are_few(shape: &AttentionShape) -> bool {
    (1..=FEW).contains(&shape.query_len) && shape.key_len > shape.query_len && shape.head_dim > 0
}

/// Keys or values of a head that are packed together: an even number, of which pairs are units.
const KEYS: usize = 128;

/// Some keys after the others.
fn blocks(keys: usize) -> impl Iterator<Item = Range<usize>> {
    (0..keys).step_by(KEYS).map(move |start| start..keys.min(start + KEYS))
}

/// Keys or values of all heads and sequences.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
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
    /// Asks for some rows of keys or values, which will be packed soon: as they lie in memory, because no prefetcher follows the
    /// rows of one head.
    #[inline(always)]
    fn ask_for<K: Kernel>(&self, of: Rows, rows: Range<usize>) {
        for row in rows {
            let (width, dim) = (self.shape.width(), self.shape.head_dim);
            let start = (self.sequence * self.shape.key_len + row) * width + self.heads.start * dim;
            match of {
                Rows::F32(data) => ask_for_lines::<K, _>(&data[start..][..self.heads.len() * dim]),
                Rows::Bf16(data) => ask_for_lines::<K, _>(&data[start..][..self.heads.len() * dim]),
            }
        }
    }

    /// The same of a part of what follows a block, where there is one part for each head.
    #[inline(always)]
    fn ask_for_next<K: Kernel>(&self, side: Side, head: usize, block: &Range<usize>) {
        let keys = self.shape.key_len;
        // After the last keys come the first values.
        let (of, next) = match side {
            Side::Keys if block.end == keys => (self.v, 0..KEYS.min(keys)),
            Side::Keys => (self.k, block.end..keys.min(block.end + KEYS)),
            Side::Values => (self.v, block.end..keys.min(block.end + KEYS)),
        };
        let part = |head: usize| next.start + next.len() * head / self.heads.len();
        self.ask_for::<K>(of, part(head)..part(head + 1));
    }

    /// Packs some keys of a head as columns, or some values as rows.
    ///
    /// # Safety
    /// The CPU has the instruction set of `K`, and what `P` needs besides.
    #[inline(always)]
    unsafe fn pack<K: Kernel, P: OwnProduct>(
        &self,
        side: Side,
        head: &Head,
        block: &Range<usize>,
    ) -> P::Packed {
        let of = match side {
            Side::Keys => self.k,
            Side::Values => self.v,
        };
        // SAFETY: the same contract.
        unsafe {
            match of {
                Rows::F32(data) => self.pack_of::<K, P, _>(data, side, head, block),
                Rows::Bf16(data) => self.pack_of::<K, P, _>(data, side, head, block),
            }
        }
    }

    /// The same of these numbers.
    ///
    /// # Safety
    /// As for [`Few::pack`].
    #[inline(always)]
    unsafe fn pack_of<'a, K: Kernel, P: OwnProduct, T: Copy>(
        &self,
        data: &'a [T],
        side: Side,
        head: &Head,
        block: &Range<usize>,
    ) -> P::Packed
    where
        MatRef<'a, T>: Right,
    {
        let &AttentionShape { key_len, head_dim: cols, .. } = self.shape;
        let (rows, row_stride, col_stride) = (block.len(), self.shape.width(), 1);
        let start = head.start(key_len, row_stride) + block.start * row_stride;
        let rows_of_keys = MatRef { data: &data[start..], rows, cols, row_stride, col_stride };
        let matrix = match side {
            Side::Keys => rows_of_keys.t(),
            Side::Values => rows_of_keys,
        };
        // SAFETY: the same contract; the whole of the matrix.
        unsafe { P::pack_part::<K>(&matrix, 0..matrix.rows, 0..matrix.cols) }
    }

    /// The products of queries and keys: `scores [heads, queries, stride]`.
    ///
    /// # Safety
    /// The CPU has the instruction set of `K`, and what `P` needs besides.
    #[inline(always)]
    unsafe fn multiply_keys<K: Kernel, P: OwnProduct>(
        &self,
        heads: &[Head],
        scores: &mut [f32],
        stride: usize,
    ) {
        let &AttentionShape { query_len, key_len, .. } = self.shape;
        self.ask_for::<K>(self.k, 0..KEYS.min(key_len));
        for block in blocks(key_len) {
            let scores = scores.chunks_exact_mut(query_len * stride);
            for (number, (head, scores)) in heads.iter().zip(scores).enumerate() {
                let target = Target { start: SendPtr(scores[block.start..].as_mut_ptr()), stride };
                self.ask_for_next::<K>(Side::Keys, number, &block);
                // SAFETY: these columns of the scores are as many as there are keys in the block.
                unsafe {
                    let keys = self.pack::<K, P>(Side::Keys, head, &block);
                    P::multiply::<K>(&head.queries(self.q, self.shape.width()), &keys, target);
                }
            }
        }
    }

    /// Turns scores into exponentials; `factors [heads, queries]` make probabilities of them.
    #[inline(always)]
    fn exponentials<P: OwnProduct>(
        &self,
        heads: &[Head],
        scores: &mut [f32],
        stride: usize,
        factors: &mut [f32],
    ) {
        let queries = self.shape.query_len;
        let first = self.sequence * self.shape.heads + self.heads.start;
        for (row, (scores, factor)) in scores.chunks_exact_mut(stride).zip(factors).enumerate() {
            let (head, i) = (&heads[row / queries], row % queries);
            let (reciprocal, lse) = head.exponentials::<P>(i, scores);
            head.leave_out(i, scores);
            *factor = reciprocal;
            if let Some(out) = &self.lse {
                // SAFETY: the number of this row of scores, in `lse`, which was checked.
                unsafe { out.slice(first * queries + row, 1)[0] = lse };
            }
        }
    }

    /// The products of `weights [heads, queries, stride]` and the values.
    ///
    /// # Safety
    /// As for [`Few::multiply_keys`]; the result has these heads, and they are this task's.
    #[inline(always)]
    unsafe fn multiply_values<K: Kernel, P: OwnProduct>(
        &self,
        heads: &[Head],
        weights: &[f32],
        stride: usize,
    ) {
        let &AttentionShape { query_len, key_len, .. } = self.shape;
        for block in blocks(key_len) {
            let weights = weights.chunks_exact(query_len * stride);
            for (number, (head, weights)) in heads.iter().zip(weights).enumerate() {
                let (data, rows, cols) = (&weights[block.start..], query_len, block.len());
                let weights = MatRef { data, rows, cols, row_stride: stride, col_stride: 1 };
                let target = head.target(self.out, self.shape.width());
                self.ask_for_next::<K>(Side::Values, number, &block);
                // SAFETY: the caller's contract.
                unsafe {
                    let values = self.pack::<K, P>(Side::Values, head, &block);
                    P::accumulate::<K>(&weights, &values, target, block.start > 0);
                }
            }
        }
    }
}

/// Asks for the cache lines of some numbers.
#[inline(always)]
fn ask_for_lines<K: Kernel, T>(numbers: &[T]) {
    for line in numbers.chunks(64 / size_of::<T>()) {
        K::prefetch(line.as_ptr().cast());
    }
}

#[derive(Clone, Copy)]
enum Side {
    Keys,
    Values,
}

impl OwnTask for Few<'_> {
    #[inline(always)]
    unsafe fn run<K: Kernel, P: OwnProduct>(self) {
        let &AttentionShape { heads, head_dim, query_len, .. } = self.shape;
        let (width, first) = (self.shape.width(), self.sequence * heads);
        let head = |head: usize| Head::new(self.shape, first + head, self.key_mask);
        let heads: Vec<Head> = self.heads.clone().map(head).collect();
        let stride = heads[0].padded();
        let mut scores = Scratch::take(heads.len() * query_len * stride);
        let mut factors = Scratch::take(heads.len() * query_len);
        // SAFETY: the same contract; the length of the result was checked, and no other task has these heads of it.
        unsafe {
            self.multiply_keys::<K, P>(&heads, &mut scores, stride);
            self.exponentials::<P>(&heads, &mut scores, stride, &mut factors);
            self.multiply_values::<K, P>(&heads, &scores, stride);
        }
        for (head, factors) in heads.iter().zip(factors.chunks_exact(query_len)) {
            let out = head.target(self.out, width).start;
            for (i, factor) in factors.iter().enumerate() {
                // SAFETY: as above.
                let values = unsafe { out.slice(i * width, head_dim) };
                values.iter_mut().for_each(|value| *value *= factor);
            }
        }
    }
}
