//! Softmax, and cross entropy of softmax and sigmoid against classes or soft targets.

use crate::Tensor;
use crate::device::{Buffer, Device};
use crate::tape::{needs_tape, record};

/// What a row of logits should say.
#[derive(Clone, Copy)]
pub enum Targets<'a> {
    /// The number of the right class, for each row.
    Classes(&'a [u32]),
    /// The number of the right class, for each row, of whose probability this part is shared among all classes.
    Smoothed(&'a [u32], f32),
    /// A distribution over the classes, for each row; shaped as the logits.
    Soft(&'a [f32]),
}

/// Softmax over the last axis; not recorded.
pub fn softmax(x: &Tensor) -> Tensor {
    Tensor::from_buffer(x.device(), x.device().softmax(x.buffer(), x.last_dim()), x.shape())
}

/// Mean over the rows of `-Σ target · log softmax(logits)`; logits `[rows, classes]`, the result a scalar.
pub fn cross_entropy(logits: &Tensor, targets: Targets) -> Tensor {
    mean_loss(logits, targets, |device| device.cross_entropy(logits.buffer(), targets, logits.last_dim()))
}

/// As [`cross_entropy`], summed over the rows, each times its weight.
pub fn weighted_cross_entropy(logits: &Tensor, targets: Targets, weights: &[f32]) -> Tensor {
    let [rows, classes] = logits.dims();
    check(targets, rows, classes);
    assert_eq!(weights.len(), rows, "a weight for each row");
    let device = logits.device();
    let (losses, gradient) = device.cross_entropy(logits.buffer(), targets, classes);
    let weights = device.upload(weights);
    let loss = Tensor::from_buffer(device, device.sum(&device.mul(&losses, &weights)), &[]);
    if !needs_tape(&[logits]) {
        return loss;
    }
    record(loss, &[logits], move |dy| {
        let weights = device.repeat_axis(&device.mul(&weights, dy.buffer()), rows, classes, 1, 1.0);
        let dlogits = device.mul(&gradient, &weights);
        vec![Some(Tensor::from_buffer(device, dlogits, &[rows, classes]))]
    })
}

/// Mean over the rows of the sum of `-target · log σ(logit) - (1 - target) · log(1 - σ(logit))`, where a class stands
/// for a target of 1 there and 0 elsewhere; logits `[rows, classes]`, the result a scalar.
pub fn binary_cross_entropy(logits: &Tensor, targets: Targets) -> Tensor {
    let loss = |device: &dyn Device| device.binary_cross_entropy(logits.buffer(), targets, logits.last_dim());
    mean_loss(logits, targets, loss)
}

/// The mean of the losses of rows, which come with their gradient.
fn mean_loss(
    logits: &Tensor,
    targets: Targets,
    losses: impl FnOnce(&dyn Device) -> (Buffer, Buffer),
) -> Tensor {
    let [rows, classes] = logits.dims();
    check(targets, rows, classes);
    let device = logits.device();
    let (losses, gradient) = losses(device);
    let mean = (rows as f32).recip();
    let loss = Tensor::from_buffer(device, device.scale(&device.sum(&losses), mean), &[]);
    if !needs_tape(&[logits]) {
        return loss;
    }
    record(loss, &[logits], move |dy| {
        let dlogits = device.mul(&device.scale(&gradient, mean), dy.buffer());
        vec![Some(Tensor::from_buffer(device, dlogits, &[rows, classes]))]
    })
}

fn check(targets: Targets, rows: usize, classes: usize) {
    match targets {
        Targets::Classes(ids) | Targets::Smoothed(ids, _) => {
            assert!(
                ids.len() == rows && ids.iter().all(|&id| (id as usize) < classes),
                "a class for each row"
            );
        }
        Targets::Soft(values) => assert_eq!(values.len(), rows * classes, "a target for each logit"),
    }
}
