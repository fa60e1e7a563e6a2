//! Activations.

use tuwen_kernels::Activation;

use crate::tape::{needs_tape, record};
use crate::{Buffer, Tensor};

/// Applies an activation element by element.
pub fn activate(activation: Activation, x: &Tensor) -> Tensor {
    let device = x.device();
    let y = Tensor::from_buffer(device, device.activate(activation, x.buffer()), x.shape());
    if !needs_tape(&[x]) {
        return y;
    }
    let saved = x.detach();
    record(y, &[x], move |dy| vec![Some(backward(activation, &saved, &dy))])
}

/// Gradient at the pre-activation `x`.
pub(super) fn backward(activation: Activation, x: &Tensor, dy: &Tensor) -> Tensor {
    let dx: Buffer = x.device().activate_backward(activation, x.buffer(), dy.buffer());
    Tensor::from_buffer(x.device(), dx, x.shape())
}
