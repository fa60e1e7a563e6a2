//! Joining tensors along an axis, and taking a part of one.

use crate::Tensor;
use crate::tape::{needs_tape, record};

/// `(blocks, elements of one block)` of a shape, where an axis begins a block.
fn blocks(shape: &[usize], axis: usize) -> (usize, usize) {
    (shape[..axis].iter().product(), shape[axis..].iter().product())
}

/// Joins tensors that agree on every axis but `axis`.
pub fn concat(parts: &[&Tensor], axis: usize) -> Tensor {
    let device = parts[0].device();
    let mut shape = parts[0].shape().to_vec();
    shape[axis] = parts.iter().map(|part| part.shape()[axis]).sum();
    for part in parts {
        let fits = part.shape().iter().zip(&shape).enumerate().all(|(i, (a, b))| i == axis || a == b);
        assert!(fits && part.shape().len() == shape.len(), "cannot join {:?} into {shape:?}", part.shape());
    }
    let (outer, stride) = blocks(&shape, axis);
    let mut buffer = device.scratch(outer * stride);
    let mut start = 0;
    for part in parts {
        let (_, len) = blocks(part.shape(), axis);
        device.copy_blocks(part.buffer(), (0, len), &mut buffer, (start, stride), outer, len);
        start += len;
    }
    let y = Tensor::from_buffer(device, buffer, &shape);
    if !needs_tape(parts) {
        return y;
    }
    let lengths: Vec<usize> = parts.iter().map(|part| part.shape()[axis]).collect();
    record(y, parts, move |dy| {
        let mut start = 0;
        let part = |&length: &usize| {
            start += length;
            Some(narrow(&dy, axis, start - length, length))
        };
        lengths.iter().map(part).collect()
    })
}

/// The part `start .. start + length` of an axis.
pub fn narrow(x: &Tensor, axis: usize, start: usize, length: usize) -> Tensor {
    assert!(start + length <= x.shape()[axis], "{start} + {length} of axis {axis} of {:?}", x.shape());
    let device = x.device();
    let (outer, stride) = blocks(x.shape(), axis);
    let inner = stride.checked_div(x.shape()[axis]).unwrap_or(0);
    let mut shape = x.shape().to_vec();
    shape[axis] = length;
    let mut buffer = device.scratch(outer * length * inner);
    let (from, len) = (start * inner, length * inner);
    device.copy_blocks(x.buffer(), (from, stride), &mut buffer, (0, len), outer, len);
    let y = Tensor::from_buffer(device, buffer, &shape);
    if !needs_tape(&[x]) {
        return y;
    }
    let shape = x.shape().to_vec();
    record(y, &[x], move |dy| {
        let mut dx = device.full(outer * stride, 0.0);
        device.copy_blocks(dy.buffer(), (0, len), &mut dx, (from, stride), outer, len);
        vec![Some(Tensor::from_buffer(device, dx, &shape))]
    })
}
