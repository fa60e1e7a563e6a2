//! Linear layers and embeddings.

use tuwen_tensor::{Activation, Param, Precision, Tensor, ops};

use crate::lora::LowRank;
use crate::{Init, Scope};

/// `activation(x · weightᵀ + bias) + residual`, where the weight may have a low-rank adapter.
pub struct Linear {
    weight: Param,
    bias: Option<Param>,
    lora: Option<LowRank>,
}

impl Linear {
    /// A layer with a bias: weight `[out, in]`, bias `[out]`.
    pub fn new(inner: usize, out: usize, weight: Init, bias: Init, scope: &Scope) -> Self {
        let bias = scope.param("bias", &[out], bias);
        Self { bias: Some(bias), ..Self::no_bias(inner, out, weight, scope) }
    }

    /// A layer without a bias.
    pub fn no_bias(inner: usize, out: usize, weight: Init, scope: &Scope) -> Self {
        let weight = scope.weight("weight", &[out, inner], weight);
        Self { weight, bias: None, lora: scope.lora(inner, out) }
    }

    /// A convolution of RGB images whose stride is its kernel, as a linear layer over cut-out patches: the weight
    /// `[out, 3, side, side]` is read as `[out, 3 · side · side]`.
    pub fn conv_patch(side: usize, out: usize, weight: Init, scope: &Scope) -> Self {
        Self { weight: scope.weight("weight", &[out, 3, side, side], weight), bias: None, lora: None }
    }

    /// As [`Linear::conv_patch`] with a bias `[out]`, which begins as the weight.
    pub fn conv_patch_with_bias(side: usize, out: usize, weight: Init, scope: &Scope) -> Self {
        let bias = scope.param("bias", &[out], weight);
        Self { bias: Some(bias), ..Self::conv_patch(side, out, weight, scope) }
    }

    /// Shapes: `[..., in]` to `[..., out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_fused(x, Activation::Identity, None)
    }

    /// The layer followed by an activation, and by the sum with a residual `[..., out]`.
    pub fn forward_fused(&self, x: &Tensor, activation: Activation, residual: Option<&Tensor>) -> Tensor {
        match &self.lora {
            None => self.base(x, activation, residual),
            Some(lora) if activation == Activation::Identity => {
                self.base(x, activation, Some(&lora.forward(x, residual)))
            }
            Some(lora) => {
                let sum = self.base(x, Activation::Identity, Some(&lora.forward(x, None)));
                let y = ops::activate(activation, &sum);
                residual.map_or_else(|| y.clone(), |residual| ops::add(&y, residual))
            }
        }
    }

    /// Weight and bias, unless there is an adapter beside them.
    pub fn plain(&self) -> Option<(Tensor, Option<Tensor>)> {
        self.lora.is_none().then(|| (self.weight.value(), self.bias.as_ref().map(Param::value)))
    }

    /// Changes whenever weight or bias do.
    pub fn version(&self) -> [u64; 2] {
        [self.weight.version(), self.bias.as_ref().map_or(0, Param::version)]
    }

    /// What it multiplies in.
    pub fn precision(&self) -> Precision {
        self.weight.value().precision()
    }

    /// The layer without its adapter.
    fn base(&self, x: &Tensor, activation: Activation, residual: Option<&Tensor>) -> Tensor {
        let bias = self.bias.as_ref().map(Param::value);
        ops::linear(x, &self.weight.value(), bias.as_ref(), activation, residual)
    }
}

/// A table of vectors, one for each id.
pub struct Embedding {
    weight: Param,
}

impl Embedding {
    /// A table `[rows, width]` under the name `weight`.
    pub fn new(rows: usize, width: usize, init: Init, scope: &Scope) -> Self {
        Self { weight: scope.param("weight", &[rows, width], init) }
    }

    /// As [`Embedding::new`] for a table that states are also multiplied with, to predict ids.
    pub fn tied(rows: usize, width: usize, init: Init, scope: &Scope) -> Self {
        Self { weight: scope.weight("weight", &[rows, width], init) }
    }

    /// Rows for ids: `[ids]` to `[ids, width]`.
    pub fn forward(&self, ids: &[u32]) -> Tensor {
        ops::gather_rows(&self.weight.value(), ids)
    }

    /// The table itself `[rows, width]`.
    pub fn table(&self) -> Tensor {
        self.weight.value()
    }
}
