//! Sizes and options of an attention.

use crate::dropout::Dropout;
use crate::precision::Precision;
use crate::threads::{WORTH_SHARING, parallel_for_work};

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
    /// What is left out of the probabilities, row by row: not a part of the softmax.
    pub dropout: Dropout,
}

impl AttentionShape {
    pub(super) fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Checks the lengths of tensors over queries and over keys, of the mask, and of one number per row of scores.
    pub(super) fn check(
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
    pub(super) fn check_self(&self, operation: &str, sides: &[usize]) -> usize {
        assert_eq!(self.query_len, self.key_len, "{operation}: a query for each key");
        let len = self.batch * self.key_len * self.width();
        assert!(
            sides.iter().all(|&side| side == 3 * len),
            "{operation}: queries, keys and values of {self:?}"
        );
        len
    }

    /// Queries, keys and values that stand side by side, each from its first number on.
    pub(super) fn sides<'a>(&self, qkv: &'a [f32]) -> [&'a [f32]; 3] {
        [0, 1, 2].map(|side| qkv.get(side * self.width()..).unwrap_or_default())
    }

    /// Calls `f` with the number of each head of each sequence; `products` are those of queries, keys and elements.
    pub(super) fn for_each_head(&self, products: usize, f: impl Fn(usize) + Sync) {
        let heads = self.batch * self.heads;
        let multiply_adds = products * heads * self.query_len * self.key_len * self.head_dim;
        parallel_for_work(heads, multiply_adds, WORTH_SHARING, f);
    }

    /// How many keys query `i` sees.
    pub(super) fn visible(&self, i: usize) -> usize {
        if self.causal {
            (i + 1 + self.key_len).saturating_sub(self.query_len).min(self.key_len)
        } else {
            self.key_len
        }
    }
}
