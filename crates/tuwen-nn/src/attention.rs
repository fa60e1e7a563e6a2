//! Multi-head attention with its four projections.

use tuwen_tensor::{Activation, AttentionMask, Tensor, ops};

use crate::{Init, KeyValues, Linear, Scope};

/// Keys and values with the number of rows of queries that see them.
#[derive(Clone, Copy)]
pub struct SeenBy<'a> {
    /// Of sequences, each seen by equally many rows.
    pub key_values: &'a KeyValues,
    /// What of them is seen.
    pub mask: AttentionMask<'a>,
    /// Rows of queries.
    pub rows: usize,
}

/// Attention of queries to keys and values, heads side by side in the width.
pub struct MultiHeadAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

impl MultiHeadAttention {
    /// Self-attention of `width`; biases begin at zero.
    pub fn new(width: usize, heads: usize, qkv: Init, out: Init, scope: &Scope) -> Self {
        let projection = |name, init| Linear::new(width, width, init, Init::ZEROS, &scope.enter(name));
        Self {
            k_proj: projection("k_proj", qkv),
            v_proj: projection("v_proj", qkv),
            q_proj: projection("q_proj", qkv),
            out_proj: projection("out_proj", out),
            heads,
        }
    }

    /// Of projections to queries, keys and values, and of what follows the heads.
    pub fn of([q_proj, k_proj, v_proj, out_proj]: [Linear; 4], heads: usize) -> Self {
        Self { q_proj, k_proj, v_proj, out_proj, heads }
    }

    /// `out_proj(attention(x)) + residual`, if there is one.
    ///
    /// Shapes: `[batch, tokens, width]` to the same.
    pub fn forward(&self, x: &Tensor, mask: AttentionMask, residual: Option<&Tensor>) -> Tensor {
        let attended = match self.attend_to_self(x, mask) {
            Some(attended) => attended,
            None => self.attended(x, x, mask),
        };
        self.out_proj.forward_fused(&attended, Activation::Identity, residual)
    }

    /// `out_proj(attention) + residual`, where `queries` ask and `x` gives keys and values.
    ///
    /// Shapes: queries, residual and result `[batch, queries, width]`, x `[batch, tokens, width]`.
    pub fn attend(&self, queries: &Tensor, x: &Tensor, mask: AttentionMask, residual: &Tensor) -> Tensor {
        let attended = self.attended(queries, x, mask);
        self.out_proj.forward_fused(&attended, Activation::Identity, Some(residual))
    }

    /// Keys and values of x `[batch, tokens, in]`.
    pub fn keys_values(&self, x: &Tensor) -> KeyValues {
        KeyValues { keys: self.k_proj.forward(x), values: self.v_proj.forward(x) }
    }

    /// Keys and values of x that are attended to many times: [rounded](KeyValues::rounded_for) as attention sees them.
    pub fn kept_keys_values(&self, x: &Tensor) -> KeyValues {
        self.keys_values(x).rounded_for(self.q_proj.precision())
    }

    /// `out_proj(attention) + residual` of the next tokens of sequences. `steps` are keys and values of those before, step by
    /// step, and get those of the new tokens; `rows` says of each, the new one included, which of its rows belongs to each
    /// sequence.
    ///
    /// Shapes: x and result `[batch, new tokens, width]`.
    pub fn forward_cached(
        &self,
        x: &Tensor,
        steps: &mut Vec<KeyValues>,
        rows: &[Vec<u32>],
        residual: &Tensor,
    ) -> Tensor {
        steps.push(self.keys_values(x));
        if let [only] = steps.as_slice() {
            return self.attend_to(x, only, AttentionMask::CAUSAL, Some(residual));
        }
        let states = steps.iter().zip(rows).map(|(step, rows)| step.of_rows(rows));
        let (q, states) = (self.q_proj.forward(x), states.collect::<Vec<_>>());
        let attended = ops::attention_to_steps(&q, &states, self.heads, self.q_proj.precision());
        self.out_proj.forward_fused(&attended, Activation::Identity, Some(residual))
    }

    /// `out_proj(attention) + residual` to given keys and values.
    ///
    /// Shapes: queries, residual and result `[rows, queries, width]`. Where there are several rows for each sequence of
    /// keys and values, they stand together, and the mask is not causal.
    ///
    /// # Panics
    /// If the number of rows is no multiple of the number of sequences.
    pub fn attend_to(
        &self,
        queries: &Tensor,
        seen: &KeyValues,
        mask: AttentionMask,
        residual: Option<&Tensor>,
    ) -> Tensor {
        self.attend_to_parts(
            queries,
            &[SeenBy { key_values: seen, mask, rows: queries.shape()[0] }],
            residual,
        )
    }

    /// The same to keys and values that lie apart, each seen by the next rows of queries.
    ///
    /// # Panics
    /// If the rows of a part are no multiple of its sequences, or those of all are not those of the queries.
    pub fn attend_to_parts(&self, queries: &Tensor, parts: &[SeenBy], residual: Option<&Tensor>) -> Tensor {
        let q = self.q_proj.forward(queries);
        let attended = match parts {
            [part] => self.attended_part(&q, part),
            _ => {
                let mut start = 0;
                let attended: Vec<Tensor> = parts
                    .iter()
                    .map(|part| {
                        let rows = ops::narrow(&q, 0, start, part.rows);
                        start += part.rows;
                        self.attended_part(&rows, part)
                    })
                    .collect();
                assert_eq!(start, q.shape()[0], "rows of queries");
                ops::concat(&attended.iter().collect::<Vec<_>>(), 0)
            }
        };
        self.out_proj.forward_fused(&attended, Activation::Identity, residual)
    }

    /// What the heads of projected queries see of a part.
    fn attended_part(&self, q: &Tensor, &SeenBy { key_values: seen, mask, rows }: &SeenBy) -> Tensor {
        let [queries, tokens, width] = q.dims();
        let sequences = seen.batch();
        assert!(
            queries == rows && (rows == sequences || (!mask.causal && rows.is_multiple_of(sequences.max(1)))),
            "{queries} rows of queries, {rows} to {sequences} sequences"
        );
        let q = q.reshape(&[sequences, rows * tokens / sequences.max(1), width]);
        let attended =
            ops::attention(&q, &seen.keys, &seen.values, self.heads, mask, self.q_proj.precision());
        attended.reshape(&[rows, tokens, width])
    }

    /// With which probabilities each head attends to given keys: `[batch, heads, queries, keys]`; not recorded.
    pub fn probabilities(&self, queries: &Tensor, seen: &KeyValues, mask: AttentionMask) -> Tensor {
        ops::attention_weights(&self.q_proj.forward(queries), &ops::from_halves(&seen.keys), self.heads, mask)
    }

    /// `out_proj(attention) + residual` by given probabilities `[batch, heads, queries, keys]`, head by head: slow, and
    /// gradients flow back to the probabilities.
    pub fn attend_by(&self, probabilities: &Tensor, seen: &KeyValues, residual: Option<&Tensor>) -> Tensor {
        let [batch, heads, queries, keys] = probabilities.dims();
        let seen_values = ops::from_halves(&seen.values);
        let head_dim = seen_values.last_dim() / heads;
        let head = |row: usize, head: usize| {
            let of_row = ops::narrow(probabilities, 0, row, 1);
            let weights = ops::narrow(&of_row, 1, head, 1).reshape(&[queries, keys]);
            let values = ops::narrow(&ops::narrow(&seen_values, 0, row, 1), 2, head * head_dim, head_dim);
            ops::matmul_nt(&weights, &ops::permute(&values.reshape(&[keys, head_dim]), &[1, 0]))
        };
        let row = |row: usize| {
            let heads: Vec<Tensor> = (0..heads).map(|number| head(row, number)).collect();
            ops::concat(&heads.iter().collect::<Vec<_>>(), 1).reshape(&[1, queries, heads.len() * head_dim])
        };
        let rows: Vec<Tensor> = (0..batch).map(row).collect();
        let attended = ops::concat(&rows.iter().collect::<Vec<_>>(), 0);
        self.out_proj.forward_fused(&attended, Activation::Identity, residual)
    }

    /// What the heads see, side by side.
    fn attended(&self, queries: &Tensor, x: &Tensor, mask: AttentionMask) -> Tensor {
        let (q, k, v) = (self.q_proj.forward(queries), self.k_proj.forward(x), self.v_proj.forward(x));
        ops::attention(&q, &k, &v, self.heads, mask, self.q_proj.precision())
    }

    /// The same for queries of the sequence itself, in one operation; not where a projection has an adapter.
    fn attend_to_self(&self, x: &Tensor, mask: AttentionMask) -> Option<Tensor> {
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj].map(Linear::plain);
        let [Some(q), Some(k), Some(v)] = projections else { return None };
        let layers = [&q, &k, &v].map(|(weight, bias)| ops::Layer { weight, bias: bias.as_ref() });
        Some(ops::self_attention(x, layers, self.heads, mask))
    }
}
