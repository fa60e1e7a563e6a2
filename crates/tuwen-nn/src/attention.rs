//! Multi-head attention with its four projections.

use tuwen_tensor::{Activation, AttentionMask, Tensor, ops};

use crate::{Init, Linear, Scope};

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

    /// `out_proj(attention(x)) + residual`.
    ///
    /// Shapes: `[batch, tokens, width]` to the same.
    pub fn forward(&self, x: &Tensor, mask: AttentionMask, residual: &Tensor) -> Tensor {
        self.out_proj.forward_fused(&self.attend(x, mask), Activation::Identity, Some(residual))
    }

    /// What the heads see, side by side.
    fn attend(&self, x: &Tensor, mask: AttentionMask) -> Tensor {
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj];
        if let [Some(q), Some(k), Some(v)] = projections.map(Linear::plain) {
            let layers = [&q, &k, &v].map(|(weight, bias)| ops::Layer { weight, bias: bias.as_ref() });
            return ops::self_attention(x, layers, self.heads, mask);
        }
        let [q, k, v] = projections.map(|projection| projection.forward(x));
        ops::attention(&q, &k, &v, self.heads, mask, self.q_proj.precision())
    }
}
