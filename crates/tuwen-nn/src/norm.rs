//! Layer normalisation.

use tuwen_tensor::{Param, Tensor, ops};

use crate::{Init, Scope};

/// Layer normalisation over the last axis.
pub struct LayerNorm {
    weight: Param,
    bias: Param,
    eps: f32,
}

impl LayerNorm {
    /// Weight one and bias zero unless loaded, both `[width]`.
    pub fn new(width: usize, eps: f32, scope: &Scope) -> Self {
        let weight = scope.param("weight", &[width], Init::ONES);
        Self { weight, bias: scope.param("bias", &[width], Init::ZEROS), eps }
    }

    /// Shapes: `[..., width]` to the same.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        ops::layer_norm(x, &self.weight.value(), &self.bias.value(), self.eps)
    }
}
