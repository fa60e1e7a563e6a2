//! Layer normalisation.

use crate::Tensor;
use crate::tape::{needs_tape, record_onto};

/// `gamma * (x - mean) / √(variance + eps) + beta` over the last axis; gamma and beta `[last]`.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f32) -> Tensor {
    let device = x.device();
    let cols = [x.last_dim()];
    assert!(gamma.shape() == cols && beta.shape() == cols, "layer norm of {:?}", x.shape());
    let normed = device.layer_norm(x.buffer(), gamma.buffer(), beta.buffer(), eps);
    let y = Tensor::from_buffer(device, normed.y, x.shape());
    if !needs_tape(&[x, gamma, beta]) {
        return y;
    }
    let (saved_x, saved_gamma, mean, rstd) = (x.detach(), gamma.detach(), normed.mean, normed.spread);
    record_onto(y, &[x, gamma, beta], move |dy, dx| {
        let dx = dx.map(Tensor::into_buffer);
        let (x, gamma) = (saved_x.buffer(), saved_gamma.buffer());
        let [dx, dgamma, dbeta] = device.layer_norm_backward(dy.buffer(), x, gamma, [&mean, &rstd], dx);
        vec![
            Some(Tensor::from_buffer(device, dx, saved_x.shape())),
            Some(Tensor::from_buffer(device, dgamma, &cols)),
            Some(Tensor::from_buffer(device, dbeta, &cols)),
        ]
    })
}
