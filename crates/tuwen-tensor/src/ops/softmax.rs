//! Softmax, and cross entropy against classes or soft targets.

use crate::Tensor;
use crate::tape::{needs_tape, record};

/// What a row of logits should say.
#[derive(Clone, Copy)]
pub enum Targets<'a> {
    /// The number of the right class, for each row.
    Classes(&'a [u32]),
    /// A distribution over the classes, for each row; shaped as the logits.
    Soft(&'a [f32]),
}

/// Softmax over the last axis; not recorded.
pub fn softmax(x: &Tensor) -> Tensor {
    Tensor::from_buffer(x.device(), x.device().softmax(x.buffer(), x.last_dim()), x.shape())
}

/// Mean over the rows of `-Σ target · log softmax(logits)`; logits `[rows, classes]`, the result a scalar.
pub fn cross_entropy(logits: &Tensor, targets: Targets) -> Tensor {
    let [rows, classes] = logits.dims();
    match targets {
        Targets::Classes(ids) => {
            assert!(
                ids.len() == rows && ids.iter().all(|&id| (id as usize) < classes),
                "a class for each row"
            );
        }
        Targets::Soft(values) => assert_eq!(values.len(), rows * classes, "a target for each logit"),
    }
    let device = logits.device();
    let (losses, gradient) = device.cross_entropy(logits.buffer(), targets, classes);
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
