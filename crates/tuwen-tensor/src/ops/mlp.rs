//! Two linear layers with an activation between them.

use tuwen_kernels::Activation;

use super::linear::{Layer, linear};
use crate::Tensor;
use crate::device::{Buffer, MlpGradients, MlpWeights};
use crate::tape::{needs_tape, record};

/// `fc2(activation(fc1(x))) + residual`.
///
/// Shapes: x `[..., in]`, weights `[inner, in]` and `[out, inner]`, residual and result `[..., out]`. As two calls of
/// [`linear`], except that the tape keeps the input of the activation only, and what lies between the layers does
/// not go through memory.
pub fn mlp(x: &Tensor, fc1: Layer, activation: Activation, fc2: Layer, residual: Option<&Tensor>) -> Tensor {
    let mut inputs = vec![x, fc1.weight, fc2.weight];
    inputs.extend(fc1.bias);
    inputs.extend(fc2.bias);
    inputs.extend(residual);
    if !needs_tape(&inputs) {
        let inner = linear(x, fc1.weight, fc1.bias, activation, None);
        return linear(&inner, fc2.weight, fc2.bias, Activation::Identity, residual);
    }
    let device = x.device();
    let ([inner, width], [out, fc2_inner]) = (fc1.size(), fc2.size());
    assert!(
        x.last_dim() == width && fc2_inner == inner,
        "mlp of {:?} with weights {:?} and {:?}",
        x.shape(),
        fc1.weight.shape(),
        fc2.weight.shape()
    );
    let rows = x.elements() / width.max(1);
    let mut shape = x.shape().to_vec();
    *shape.last_mut().expect("x has a last axis") = out;
    assert!(residual.is_none_or(|r| r.shape() == shape), "the residual is shaped as the result");
    let weights = MlpWeights {
        fc1: fc1.packed(),
        bias1: fc1.bias.map(Tensor::buffer),
        activation,
        fc2: fc2.packed(),
        bias2: fc2.bias.map(Tensor::buffer),
    };
    let (y, kept) = device.mlp(x.buffer(), weights, rows, residual.map(Tensor::buffer));
    let y = Tensor::from_buffer(device, y, &shape);

    let saved_x = x.detach();
    let [w1, w2] = [fc1.weight, fc2.weight].map(Tensor::detach);
    let needs = |tensor: Option<&Tensor>| tensor.map(Tensor::requires_grad);
    let (bias1_needs, bias2_needs, has_residual) = (needs(fc1.bias), needs(fc2.bias), residual.is_some());
    let learns = [fc1.weight, fc2.weight].map(Tensor::requires_grad);
    record(y, &inputs, move |dy| {
        let pack = |w: &Tensor, [out, inner]: [usize; 2]| {
            device.pack_linear_backward(w.buffer(), out, inner, w.precision())
        };
        let (fc1, fc2) = (pack(&w1, [inner, width]), pack(&w2, [out, inner]));
        let weights = MlpWeights { fc1: &fc1, bias1: None, activation, fc2: &fc2, bias2: None };
        let MlpGradients { dx, activated, dz, dbias1 } =
            device.mlp_backward(dy.buffer(), kept, weights, rows);
        let product = |dy: &Buffer, x: &Buffer, w: &Tensor, [out, inner]: [usize; 2]| {
            let dw = device.matmul([(dy, true), (x, false)], [out, rows, inner], w.precision());
            Tensor::from_buffer(device, dw, w.shape())
        };
        let dw2 = learns[1].then(|| product(dy.buffer(), &activated, &w2, [out, inner]));
        drop(activated);
        let dw1 = learns[0].then(|| product(&dz, saved_x.buffer(), &w1, [inner, width]));
        let mut gradients = vec![Some(Tensor::from_buffer(device, dx, saved_x.shape())), dw1, dw2];
        let dbias1 = Tensor::from_buffer(device, dbias1, &[inner]);
        gradients.extend(bias1_needs.map(|needs| needs.then_some(dbias1)));
        gradients.extend(bias2_needs.map(|needs| {
            needs.then(|| Tensor::from_buffer(device, device.column_sums(dy.buffer(), out), &[out]))
        }));
        gradients.extend(has_residual.then_some(Some(dy)));
        gradients
    })
}
