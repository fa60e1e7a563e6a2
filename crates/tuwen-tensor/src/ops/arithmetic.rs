//! Element-wise arithmetic and reductions.

use crate::Tensor;
use crate::tape::{needs_tape, record};

/// `a + b`. The shape of b is a suffix of that of a, over whose leading axes it repeats.
pub fn add(a: &Tensor, b: &Tensor) -> Tensor {
    assert!(a.shape().ends_with(b.shape()), "cannot add {:?} to {:?}", b.shape(), a.shape());
    let device = a.device();
    let y = Tensor::from_buffer(device, device.add(a.buffer(), b.buffer()), a.shape());
    if !needs_tape(&[a, b]) {
        return y;
    }
    let b_shape = b.shape().to_vec();
    record(y, &[a, b], move |dy| {
        let db = if dy.shape() == b_shape {
            dy.clone()
        } else {
            let sums = device.column_sums(dy.buffer(), b_shape.iter().product());
            Tensor::from_buffer(device, sums, &b_shape)
        };
        vec![Some(dy), Some(db)]
    })
}

/// `a * b` element by element; a `b` of one element multiplies everything.
pub fn mul(a: &Tensor, b: &Tensor) -> Tensor {
    assert!(
        b.elements() == 1 || a.shape() == b.shape(),
        "cannot multiply {:?} by {:?}",
        a.shape(),
        b.shape()
    );
    let device = a.device();
    let y = Tensor::from_buffer(device, device.mul(a.buffer(), b.buffer()), a.shape());
    if !needs_tape(&[a, b]) {
        return y;
    }
    let (a_saved, b_saved) = (a.detach(), b.detach());
    record(y, &[a, b], move |dy| {
        let da = device.mul(dy.buffer(), b_saved.buffer());
        let db = device.mul(dy.buffer(), a_saved.buffer());
        let db = if b_saved.elements() == 1 { device.sum(&db) } else { db };
        vec![
            Some(Tensor::from_buffer(device, da, a_saved.shape())),
            Some(Tensor::from_buffer(device, db, b_saved.shape())),
        ]
    })
}

/// `x * factor`.
pub fn scale(x: &Tensor, factor: f32) -> Tensor {
    let device = x.device();
    let scaled = move |t: &Tensor| Tensor::from_buffer(device, device.scale(t.buffer(), factor), t.shape());
    let y = scaled(x);
    if !needs_tape(&[x]) {
        return y;
    }
    record(y, &[x], move |dy| vec![Some(scaled(&dy))])
}

/// `eˣ`, element by element.
pub fn exp(x: &Tensor) -> Tensor {
    let device = x.device();
    let y = Tensor::from_buffer(device, device.exp(x.buffer()), x.shape());
    if !needs_tape(&[x]) {
        return y;
    }
    let saved = y.clone();
    record(y, &[x], move |dy| {
        vec![Some(Tensor::from_buffer(device, device.mul(dy.buffer(), saved.buffer()), saved.shape()))]
    })
}

/// Sum of all elements, as a scalar.
pub fn sum(x: &Tensor) -> Tensor {
    let device = x.device();
    let y = Tensor::from_buffer(device, device.sum(x.buffer()), &[]);
    if !needs_tape(&[x]) {
        return y;
    }
    let shape = x.shape().to_vec();
    record(y, &[x], move |dy| {
        let dx = device.repeat_axis(dy.buffer(), 1, shape.iter().product(), 1, 1.0);
        vec![Some(Tensor::from_buffer(device, dx, &shape))]
    })
}

/// The lengths before, at and after an axis.
fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// Mean over one axis, which goes away.
pub fn mean_axis(x: &Tensor, axis: usize) -> Tensor {
    let device = x.device();
    let (outer, len, inner) = around(x.shape(), axis);
    let mut shape = x.shape().to_vec();
    shape.remove(axis);
    let y = Tensor::from_buffer(device, device.mean_axis(x.buffer(), outer, len, inner), &shape);
    if !needs_tape(&[x]) {
        return y;
    }
    let shape = x.shape().to_vec();
    record(y, &[x], move |dy| {
        let dx = device.repeat_axis(dy.buffer(), outer, len, inner, 1.0 / len as f32);
        vec![Some(Tensor::from_buffer(device, dx, &shape))]
    })
}

/// Repeats a tensor `len` times along a new first axis.
pub fn repeat_axis(x: &Tensor, len: usize) -> Tensor {
    let device = x.device();
    let mut shape = vec![len];
    shape.extend(x.shape());
    let y = Tensor::from_buffer(device, device.repeat_axis(x.buffer(), 1, len, x.elements(), 1.0), &shape);
    if !needs_tape(&[x]) {
        return y;
    }
    let shape = x.shape().to_vec();
    record(y, &[x], move |dy| {
        let dx = device.column_sums(dy.buffer(), shape.iter().product());
        vec![Some(Tensor::from_buffer(device, dx, &shape))]
    })
}
