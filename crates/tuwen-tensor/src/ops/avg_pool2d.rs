//! Average pooling.

use crate::Tensor;
use crate::tape::{needs_tape, record};

/// Means of `k` by `k` squares: `[batch, height, width, channels]` to `[batch, height / k, width / k, channels]`.
pub fn avg_pool2d(x: &Tensor, k: usize) -> Tensor {
    let size @ [batch, height, width, channels] = x.dims();
    let device = x.device();
    let pooled = device.avg_pool2d(x.buffer(), size, k);
    let y = Tensor::from_buffer(device, pooled, &[batch, height / k, width / k, channels]);
    if !needs_tape(&[x]) {
        return y;
    }
    record(y, &[x], move |dy| {
        vec![Some(Tensor::from_buffer(device, device.avg_pool2d_backward(dy.buffer(), size, k), &size))]
    })
}
