//! The matrix product with a weight; bias, activation and residual fused.

use tuwen_kernels::Activation;

use crate::Tensor;
use crate::device::{Epilogue, Packed};
use crate::tape::{needs_tape, record};

/// The parameters of a linear layer.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// `[out, in]`; its precision is that of the layer.
    pub weight: &'a Tensor,
    /// `[out]`.
    pub bias: Option<&'a Tensor>,
}

impl<'a> Layer<'a> {
    /// Numbers that it gives and takes.
    pub(super) fn size(&self) -> [usize; 2] {
        [self.weight.shape()[0], self.weight.shape()[1..].iter().product()]
    }

    /// The weight as it is multiplied.
    pub(super) fn packed(&self) -> &'a Packed {
        let ([out, inner], weight) = (self.size(), self.weight);
        weight.packed(|values| weight.device().pack_linear(values, out, inner, weight.precision()))
    }
}

/// `activation(x · weightᵀ + bias) + residual`.
///
/// Shapes: x `[..., in]`, weight `[out, in]`, bias `[out]`, residual and result `[..., out]`. A weight of more axes
/// (a convolution over patches) is read as `[out, product of the others]`. The weight's precision is that of the product
/// and of its gradients.
pub fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Tensor {
    let layer = Layer { weight, bias };
    let [out, inner] = layer.size();
    assert_eq!(x.last_dim(), inner, "linear of {:?} with a weight {:?}", x.shape(), weight.shape());
    let device = x.device();
    let rows = x.elements() / inner.max(1);
    let mut shape = x.shape().to_vec();
    *shape.last_mut().expect("x has a last axis") = out;
    assert!(residual.is_none_or(|r| r.shape() == shape), "the residual is shaped as the result");

    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    inputs.extend(residual);
    let recording = needs_tape(&inputs);
    // The backward pass of an activation needs what it was applied to, so recording keeps the two apart.
    let fuse = !recording || activation == Activation::Identity;
    let epilogue = Epilogue {
        bias: bias.map(Tensor::buffer),
        activation: fuse.then_some(activation),
        residual: residual.filter(|_| fuse).map(Tensor::buffer),
        residual_first: false,
    };
    let product =
        Tensor::from_buffer(device, device.linear(x.buffer(), layer.packed(), rows, epilogue), &shape);
    if !recording {
        return product;
    }
    let (y, pre_activation) = if fuse {
        (product, None)
    } else {
        let activated = device.activate(activation, product.buffer());
        let y = match residual {
            Some(residual) => device.add(&activated, residual.buffer()),
            None => activated,
        };
        (Tensor::from_buffer(device, y, &shape), Some(product))
    };

    // A frozen weight keeps no input alive, and an input that needs no gradient no weight.
    let saved_x = weight.requires_grad().then(|| x.detach());
    let saved_weight = x.requires_grad().then(|| weight.detach());
    let (x_shape, weight_shape) = (x.shape().to_vec(), weight.shape().to_vec());
    let bias_needs = bias.map(Tensor::requires_grad);
    let has_residual = residual.is_some();
    let precision = weight.precision();
    record(y, &inputs, move |dy| {
        let dz = match &pre_activation {
            Some(z) => super::activation::backward(activation, z, &dy),
            None => dy.clone(),
        };
        let dx = saved_weight.map(|weight| {
            let operands = [(dz.buffer(), false), (weight.buffer(), false)];
            let dx = device.matmul(operands, [rows, out, inner], precision);
            Tensor::from_buffer(device, dx, &x_shape)
        });
        let dw = saved_x.map(|x| {
            let operands = [(dz.buffer(), true), (x.buffer(), false)];
            let dw = device.matmul(operands, [out, rows, inner], precision);
            Tensor::from_buffer(device, dw, &weight_shape)
        });
        let mut gradients = vec![dx, dw];
        gradients.extend(bias_needs.map(|needs| {
            needs.then(|| Tensor::from_buffer(device, device.column_sums(dz.buffer(), out), &[out]))
        }));
        gradients.extend(has_residual.then_some(Some(dy)));
        gradients
    })
}

/// `a · bᵀ` for two tensors of rows: a `[m, k]`, b `[n, k]`, the result `[m, n]`.
pub fn matmul_nt(a: &Tensor, b: &Tensor) -> Tensor {
    linear(a, b, None, Activation::Identity, None)
}
