//! Reordering axes, and reading the same values under another shape.

use crate::Tensor;
use crate::tape::{needs_tape, record};

/// Reorders axes: axis i of the result is axis `axes[i]` of x.
pub fn permute(x: &Tensor, axes: &[usize]) -> Tensor {
    let shape: Vec<usize> = axes.iter().map(|&axis| x.shape()[axis]).collect();
    let device = x.device();
    let y = Tensor::from_buffer(device, device.permute(x.buffer(), x.shape(), axes), &shape);
    if !needs_tape(&[x]) {
        return y;
    }
    let mut inverse = vec![0; axes.len()];
    for (to, &from) in axes.iter().enumerate() {
        inverse[from] = to;
    }
    record(y, &[x], move |dy| vec![Some(permute(&dy, &inverse))])
}

/// The same values under another shape; no copy.
pub fn reshape(x: &Tensor, shape: &[usize]) -> Tensor {
    let y = x.view(shape);
    if !needs_tape(&[x]) {
        return y;
    }
    let shape = x.shape().to_vec();
    record(y, &[x], move |dy| vec![Some(dy.view(&shape))])
}
