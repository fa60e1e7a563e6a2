//! The head that predicts tokens: of a language model or of a masked one.

use tuwen_nn::{Init, LayerNorm, Linear, Scope};
use tuwen_tensor::{Activation, Param, Tensor, ops};

use super::config::BertConfig;
use super::layer::INIT;

/// `norm(activation(dense(x)))` by the table of token embeddings, and a bias for each token.
pub struct TokenHead {
    dense: Linear,
    norm: LayerNorm,
    bias: Param,
    hidden_act: Activation,
}

impl TokenHead {
    /// Names as below `cls` of transformers' `BertLMHeadModel`.
    pub fn new(config: &BertConfig, scope: &Scope) -> Self {
        let width = config.hidden_size;
        let scope = scope.enter("predictions");
        let transform = scope.enter("transform");
        Self {
            dense: Linear::new(width, width, INIT, Init::ZEROS, &transform.enter("dense")),
            norm: LayerNorm::new(width, config.layer_norm_eps, &transform.enter("LayerNorm")),
            bias: scope.param("bias", &[config.vocab_size], Init::ZEROS),
            hidden_act: config.hidden_act,
        }
    }

    /// Logits of tokens: states `[..., hidden_size]` and the table `[vocab_size, hidden_size]` to `[..., vocab_size]`.
    pub fn forward(&self, states: &Tensor, table: &Tensor) -> Tensor {
        let transformed = self.norm.forward(&self.dense.forward_fused(states, self.hidden_act, None));
        ops::linear(&transformed, table, Some(&self.bias.value()), Activation::Identity, None)
    }
}
