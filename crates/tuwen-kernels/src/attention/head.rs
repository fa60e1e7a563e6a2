//! One head: where its rows lie, and what happens to a row of scores.

use super::AttentionShape;
use crate::gemm::{MatRef, OwnProduct, Target};
use crate::math::{LANES, exp, max, sum_of};
use crate::threads::SendPtr;

/// One head of one sequence.
pub(super) struct Head<'a> {
    pub(super) shape: &'a AttentionShape,
    /// Its number among the heads of all sequences.
    index: usize,
    sequence: usize,
    column: usize,
    /// What is added to the scores of each key: zero, or negative infinity where it is masked.
    mask: Option<Vec<f32>>,
}

impl<'a> Head<'a> {
    pub(super) fn new(shape: &'a AttentionShape, index: usize, key_mask: Option<&[bool]>) -> Self {
        let sequence = index / shape.heads;
        let mask = key_mask.map(|mask| {
            let mask = &mask[sequence * shape.key_len..][..shape.key_len];
            mask.iter().map(|&visible| if visible { 0.0 } else { f32::NEG_INFINITY }).collect()
        });
        Self { shape, index, sequence, column: index % shape.heads * shape.head_dim, mask }
    }

    /// Where this head begins in a tensor of sequences of `len` rows, which are `stride` apart.
    pub(super) fn start(&self, len: usize, stride: usize) -> usize {
        self.sequence * len * stride + self.column
    }

    fn matrix<'b>(&self, data: &'b [f32], len: usize, row_stride: usize) -> MatRef<'b> {
        let cols = self.shape.head_dim;
        let data = data.get(self.start(len, row_stride)..).unwrap_or_default(); // nothing where sequences are empty
        MatRef { data, rows: len, cols, row_stride, col_stride: 1 }
    }

    /// This head of a tensor over queries, whose rows are `stride` apart.
    pub(super) fn queries<'b>(&self, data: &'b [f32], stride: usize) -> MatRef<'b> {
        self.matrix(data, self.shape.query_len, stride)
    }

    /// This head of a tensor over keys.
    pub(super) fn keys<'b>(&self, data: &'b [f32], stride: usize) -> MatRef<'b> {
        self.matrix(data, self.shape.key_len, stride)
    }

    /// This head of queries, keys and values, whose rows are `stride` apart.
    pub(super) fn sides<'b>(&self, [q, k, v]: [&'b [f32]; 3], stride: usize) -> [MatRef<'b>; 3] {
        [self.queries(q, stride), self.keys(k, stride), self.keys(v, stride)]
    }

    /// Queries, keys and values of this head alone, one after the other.
    pub(super) fn beside<'b>(&self, data: &'b [f32]) -> [MatRef<'b>; 3] {
        let (len, cols) = (self.shape.key_len, self.shape.head_dim);
        [0, 1, 2].map(|side| MatRef::new(&data[side * len * cols..][..len * cols], len, cols))
    }

    pub(super) fn target(&self, data: SendPtr<f32>, stride: usize) -> Target {
        let start = SendPtr(data.get().wrapping_add(self.start(self.shape.query_len, stride)));
        Target { start, stride }
    }

    pub(super) fn key_target(&self, data: SendPtr<f32>, stride: usize) -> Target {
        let start = SendPtr(data.get().wrapping_add(self.start(self.shape.key_len, stride)));
        Target { start, stride }
    }

    /// Length of a row of scores in working memory: whole lanes, because what is left over costs more than a lane.
    pub(super) fn padded(&self) -> usize {
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
    pub(super) fn softmax(&self, i: usize, products: &mut [f32]) -> f32 {
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
    pub(super) fn exponentials<P: OwnProduct>(&self, i: usize, products: &mut [f32]) -> (f32, f32) {
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

    /// Leaves out a part of the row of query `i`, of probabilities or of their gradients.
    #[inline(always)]
    pub(super) fn leave_out(&self, i: usize, row: &mut [f32]) {
        if self.shape.dropout.is_on() {
            self.shape.dropout.leave_out_of_row(self.index * self.shape.query_len + i, row);
        }
    }

    /// The probabilities again, from the log of the sum of exponentials.
    #[inline(always)]
    pub(super) fn softmax_again(&self, i: usize, lse: f32, products: &mut [f32]) {
        self.score(i, products);
        if lse == f32::NEG_INFINITY {
            return products.fill(0.0);
        }
        for s in products {
            *s = exp(*s - lse);
        }
    }
}
