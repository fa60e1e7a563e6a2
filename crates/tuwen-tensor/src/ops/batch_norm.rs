//! Batch normalisation with batch statistics, as in training. In inference it is folded into the convolution.

use crate::Tensor;
use crate::tape::{needs_tape, record};

/// Statistics of one batch, for the running averages.
pub struct BatchStatistics {
    /// Mean of each channel.
    pub mean: Tensor,
    /// Biased variance of each channel.
    pub variance: Tensor,
}

/// `relu(gamma * (x - mean) / √(variance + eps) + beta + residual)`, statistics over all axes but the last.
///
/// Shapes: x `[..., channels]`, gamma and beta `[channels]`, the residual as x.
pub fn batch_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
    eps: f32,
) -> (Tensor, BatchStatistics) {
    let device = x.device();
    let channels = [x.last_dim()];
    assert!(gamma.shape() == channels && beta.shape() == channels, "batch norm of {:?}", x.shape());
    assert!(residual.is_none_or(|r| r.shape() == x.shape()), "the residual is shaped as the input");
    let normed =
        device.batch_norm(x.buffer(), gamma.buffer(), beta.buffer(), residual.map(Tensor::buffer), relu, eps);
    let y = Tensor::from_buffer(device, normed.y, x.shape());
    let mean = Tensor::from_buffer(device, normed.mean, &channels);
    let variance = Tensor::from_buffer(device, normed.spread, &channels);
    let statistics = BatchStatistics { mean: mean.clone(), variance: variance.clone() };
    let mut inputs = vec![x, gamma, beta];
    inputs.extend(residual);
    if !needs_tape(&inputs) {
        return (y, statistics);
    }
    let (x, gamma, saved_y, has_residual) = (x.detach(), gamma.detach(), y.clone(), residual.is_some());
    let y = record(y, &inputs, move |dy| {
        let ([dx, dgamma, dbeta], dresidual) = device.batch_norm_backward(
            dy.buffer(),
            x.buffer(),
            saved_y.buffer(),
            gamma.buffer(),
            [mean.buffer(), variance.buffer()],
            has_residual,
            relu,
            eps,
        );
        let mut gradients = vec![
            Some(Tensor::from_buffer(device, dx, x.shape())),
            Some(Tensor::from_buffer(device, dgamma, &channels)),
            Some(Tensor::from_buffer(device, dbeta, &channels)),
        ];
        gradients.extend(dresidual.map(|gradient| Some(Tensor::from_buffer(device, gradient, x.shape()))));
        gradients
    });
    (y, statistics)
}
