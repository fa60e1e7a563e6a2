//! The pre-norm transformer layer that CLIP's two towers share.

use tuwen_tensor::{Activation, AttentionMask, Tensor, ops};

use crate::{DropPath, Init, LayerNorm, Linear, Mlp, MultiHeadAttention, Scope};

/// Sizes of a layer.
#[derive(Clone, Copy, Debug)]
pub struct EncoderLayerConfig {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Activation of the MLP.
    pub hidden_act: Activation,
    /// Added to the variance in both layer norms.
    pub layer_norm_eps: f32,
}

/// Distributions of a layer's matrices.
#[derive(Clone, Copy, Debug)]
pub struct EncoderLayerInit {
    /// Query, key and value projections.
    pub qkv: Init,
    /// Output projection of the attention.
    pub out_proj: Init,
    /// First matrix of the MLP.
    pub fc1: Init,
    /// Second matrix of the MLP.
    pub fc2: Init,
    /// Biases of the MLP's two matrices.
    pub mlp_biases: [Init; 2],
}

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
pub struct EncoderLayer {
    layer_norm1: LayerNorm,
    self_attn: MultiHeadAttention,
    layer_norm2: LayerNorm,
    mlp: Mlp,
}

impl EncoderLayer {
    /// A layer under Hugging Face's names (`self_attn`, `layer_norm1`, `mlp.fc1`, ...).
    pub fn new(config: &EncoderLayerConfig, init: &EncoderLayerInit, scope: &Scope) -> Self {
        let EncoderLayerConfig { hidden_size, intermediate_size, num_attention_heads, .. } = *config;
        let norm = |name| LayerNorm::new(hidden_size, config.layer_norm_eps, &scope.enter(name));
        let attention = scope.enter("self_attn");
        let mlp = scope.enter("mlp");
        let [bias1, bias2] = init.mlp_biases;
        let linear = |name, inner, out, weight, bias| Linear::new(inner, out, weight, bias, &mlp.enter(name));
        Self {
            self_attn: MultiHeadAttention::new(
                hidden_size,
                num_attention_heads,
                init.qkv,
                init.out_proj,
                &attention,
            ),
            layer_norm1: norm("layer_norm1"),
            mlp: Mlp::new(
                linear("fc1", hidden_size, intermediate_size, init.fc1, bias1),
                linear("fc2", intermediate_size, hidden_size, init.fc2, bias2),
                config.hidden_act,
            ),
            layer_norm2: norm("layer_norm2"),
        }
    }

    /// Shapes: `[batch, tokens, hidden_size]` to the same.
    pub fn forward(&self, x: &Tensor, mask: AttentionMask) -> Tensor {
        self.mlp_of_normed(&self.self_attn.forward(&self.layer_norm1.forward(x), mask, Some(x)))
    }

    /// As [`EncoderLayer::forward`] where both branches are left out for some samples.
    pub(crate) fn forward_dropping(&self, x: &Tensor, mask: AttentionMask, drop_path: DropPath) -> Tensor {
        let attended = self.self_attn.forward(&self.layer_norm1.forward(x), mask, None);
        let x = ops::add(&drop_path.apply(&attended, 0), x);
        let y = self.mlp.forward(&self.layer_norm2.forward(&x), None);
        ops::add(&drop_path.apply(&y, 1), &x)
    }

    /// As [`EncoderLayer::forward`] for one token of each sequence, at these positions: all give keys and values, the
    /// rest is computed for the one.
    ///
    /// Shapes: `[batch, tokens, hidden_size]` and `[batch]` to `[batch, hidden_size]`.
    pub fn forward_at(&self, x: &Tensor, positions: &[usize], mask: AttentionMask) -> Tensor {
        let [batch, tokens, width] = x.dims();
        let normed = self.layer_norm1.forward(x);
        let one = |x: &Tensor| tokens_at(x, positions).reshape(&[batch, 1, width]);
        let keys = keys_before(positions, tokens, &mask);
        let mask = AttentionMask { causal: false, keys: keys.as_deref().or(mask.keys), ..mask };
        self.mlp_of_normed(&self.self_attn.attend(&one(&normed), &normed, mask, &one(x)))
            .reshape(&[batch, width])
    }

    /// `mlp(norm(x)) + x`.
    fn mlp_of_normed(&self, x: &Tensor) -> Tensor {
        self.mlp.forward(&self.layer_norm2.forward(x), Some(x))
    }
}

/// One token of each sequence: `[batch, tokens, width]` and `[batch]` positions to `[batch, width]`.
///
/// # Panics
/// If there is not one position for each sequence, or it lies outside.
pub(crate) fn tokens_at(x: &Tensor, positions: &[usize]) -> Tensor {
    let [batch, tokens, width] = x.dims();
    let inside = positions.len() == batch && positions.iter().all(|&position| position < tokens);
    assert!(inside, "{positions:?} in {batch} sequences of {tokens}");
    let rows: Vec<u32> = positions.iter().enumerate().map(|(i, at)| (i * tokens + at) as u32).collect();
    ops::gather_rows(&x.reshape(&[batch * tokens, width]), &rows)
}

/// The keys `[batch, tokens]` that a causal mask shows to a query at each position; `None` if these are all that it has.
fn keys_before(positions: &[usize], tokens: usize, mask: &AttentionMask) -> Option<Vec<bool>> {
    if !mask.causal || positions.iter().all(|&position| position + 1 == tokens) {
        return None;
    }
    let mut keys = mask.keys.map_or_else(|| vec![true; positions.len() * tokens], <[bool]>::to_vec);
    for (row, position) in keys.chunks_exact_mut(tokens).zip(positions) {
        row[position + 1..].fill(false);
    }
    Some(keys)
}
