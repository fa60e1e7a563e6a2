//! The pre-norm transformer layer that CLIP's two towers share.

use tuwen_tensor::{Activation, AttentionMask, Tensor, ops};

use crate::{Init, LayerNorm, Linear, MultiHeadAttention, Scope};

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
}

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
pub struct EncoderLayer {
    layer_norm1: LayerNorm,
    self_attn: MultiHeadAttention,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    hidden_act: Activation,
}

impl EncoderLayer {
    /// A layer under Hugging Face's names (`self_attn`, `layer_norm1`, `mlp.fc1`, ...).
    pub fn new(config: &EncoderLayerConfig, init: &EncoderLayerInit, scope: &Scope) -> Self {
        let EncoderLayerConfig { hidden_size, intermediate_size, num_attention_heads, .. } = *config;
        let norm = |name| LayerNorm::new(hidden_size, config.layer_norm_eps, &scope.enter(name));
        let attention = scope.enter("self_attn");
        let mlp = scope.enter("mlp");
        let linear =
            |name, inner, out, weight| Linear::new(inner, out, weight, Init::fan_in(inner), &mlp.enter(name));
        Self {
            self_attn: MultiHeadAttention::new(
                hidden_size,
                num_attention_heads,
                init.qkv,
                init.out_proj,
                &attention,
            ),
            layer_norm1: norm("layer_norm1"),
            fc1: linear("fc1", hidden_size, intermediate_size, init.fc1),
            fc2: linear("fc2", intermediate_size, hidden_size, init.fc2),
            layer_norm2: norm("layer_norm2"),
            hidden_act: config.hidden_act,
        }
    }

    /// Shapes: `[batch, tokens, hidden_size]` to the same.
    pub fn forward(&self, x: &Tensor, mask: AttentionMask) -> Tensor {
        let x = &self.self_attn.forward(&self.layer_norm1.forward(x), mask, x);
        self.mlp(&self.layer_norm2.forward(x), x)
    }

    fn mlp(&self, x: &Tensor, residual: &Tensor) -> Tensor {
        if let (Some(fc1), Some(fc2)) = (self.fc1.plain(), self.fc2.plain()) {
            let [fc1, fc2] = [&fc1, &fc2].map(|(weight, bias)| ops::Layer { weight, bias: bias.as_ref() });
            return ops::mlp(x, fc1, self.hidden_act, fc2, Some(residual));
        }
        let inner = self.fc1.forward_fused(x, self.hidden_act, None);
        self.fc2.forward_fused(&inner, Activation::Identity, Some(residual))
    }
}
