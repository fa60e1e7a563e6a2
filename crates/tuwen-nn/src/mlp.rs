//! The two linear layers of a transformer layer.

use tuwen_tensor::{Activation, Tensor, ops};

use crate::Linear;

/// `fc2(activation(fc1(x))) + residual`, if there is one.
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl Mlp {
    /// Of two layers, the second as wide inside as the first outside.
    pub fn new(fc1: Linear, fc2: Linear, activation: Activation) -> Self {
        Self { fc1, fc2, activation }
    }

    /// Shapes: x `[..., in]`, residual and result `[..., out]`.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Tensor {
        if let (Some(fc1), Some(fc2)) = (self.fc1.plain(), self.fc2.plain()) {
            let [fc1, fc2] = [&fc1, &fc2].map(|(weight, bias)| ops::Layer { weight, bias: bias.as_ref() });
            return ops::mlp(x, fc1, self.activation, fc2, residual);
        }
        let inner = self.fc1.forward_fused(x, self.activation, None);
        self.fc2.forward_fused(&inner, Activation::Identity, residual)
    }
}
