//! Rows of unit length.

use crate::Tensor;
use crate::tape::{needs_tape, record};

/// Below this norm a row is divided by it instead (`torch.nn.functional.normalize`).
const EPS: f32 = 1e-12;

/// `x / max(‖x‖, 1e-12)` for each row of the last axis.
pub fn l2_normalize(x: &Tensor) -> Tensor {
    let device = x.device();
    let cols = x.last_dim();
    let (y, norm) = device.l2_normalize(x.buffer(), cols, EPS);
    let y = Tensor::from_buffer(device, y, x.shape());
    if !needs_tape(&[x]) {
        return y;
    }
    let saved = y.clone();
    record(y, &[x], move |dy| {
        let dx = device.l2_normalize_backward(dy.buffer(), saved.buffer(), &norm, cols, EPS);
        vec![Some(Tensor::from_buffer(device, dx, saved.shape()))]
    })
}
