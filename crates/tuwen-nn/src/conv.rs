//! A convolution followed by batch normalisation, which inference folds into one.

use std::sync::{Arc, Mutex};

use tuwen_tensor::{Param, Tensor, no_grad, ops};

use crate::{Init, Pass, Scope};

/// `torch.nn.BatchNorm2d`'s defaults.
const EPS: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

/// Convolution without bias, batch normalisation, optional residual and ReLU; channels last.
pub struct ConvBatchNorm {
    weight: Param,
    norm: BatchNorm,
    stride: usize,
    folded: Mutex<Option<Arc<Folded>>>,
}

struct BatchNorm {
    weight: Param,
    bias: Param,
    running_mean: Param,
    running_var: Param,
}

/// The convolution whose output is already normalised with running statistics.
struct Folded {
    version: [u64; 5],
    weight: Tensor,
    bias: Tensor,
}

impl ConvBatchNorm {
    /// A square kernel with "same" padding, `kernel / 2`. The norm's weight begins at `gain`.
    pub fn new(
        [inner, out, kernel, stride]: [usize; 4],
        gain: f32,
        conv_scope: &Scope,
        norm_scope: &Scope,
    ) -> Self {
        let init = Init::fan_in(inner * kernel * kernel);
        let weight = conv_scope.param("weight", &[out, inner, kernel, kernel], init);
        let norm = BatchNorm {
            weight: norm_scope.param("weight", &[out], Init::Const(gain)),
            bias: norm_scope.param("bias", &[out], Init::ZEROS),
            running_mean: norm_scope.buffer("running_mean", &[out], Init::ZEROS),
            running_var: norm_scope.buffer("running_var", &[out], Init::ONES),
        };
        Self { weight, norm, stride, folded: Mutex::default() }
    }

    /// `relu(norm(conv(x)) + residual)`.
    ///
    /// Shapes: x `[batch, height, width, in]`; result and residual `[batch, height / stride, width / stride, out]`.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>, relu: bool, pass: &Pass) -> Tensor {
        if !pass.is_training() {
            let folded = self.fold();
            let padding = self.padding();
            return ops::conv2d(x, &folded.weight, self.stride, padding, Some(&folded.bias), residual, relu);
        }
        let y = self.convolve(x);
        let (gamma, beta) = (self.norm.weight.value(), self.norm.bias.value());
        let (normed, batch) = ops::batch_norm(&y, &gamma, &beta, residual, relu, EPS);
        let count = (y.elements() / y.last_dim()) as f32;
        if pass.moves_statistics() {
            self.norm.track(&batch, count / (count - 1.0).max(1.0));
        }
        normed
    }

    /// The convolution alone.
    pub fn convolve(&self, x: &Tensor) -> Tensor {
        ops::conv2d(x, &self.weight.value(), self.stride, self.padding(), None, None, false)
    }

    fn padding(&self) -> usize {
        self.weight.shape()[2] / 2
    }

    fn fold(&self) -> Arc<Folded> {
        let norm = &self.norm;
        let sources = [&self.weight, &norm.weight, &norm.bias, &norm.running_mean, &norm.running_var];
        let version = sources.map(Param::version);
        let mut cache = self.folded.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(folded) = cache.as_ref().filter(|folded| folded.version == version) {
            return folded.clone();
        }
        let [weight, gamma, beta, mean, var] = sources.map(|param| param.value().to_vec());
        let gain: Vec<f32> = gamma.iter().zip(&var).map(|(g, v)| g / (v + EPS).sqrt()).collect();
        let bias: Vec<f32> = beta.iter().zip(&mean).zip(&gain).map(|((b, m), g)| b - m * g).collect();
        let fan_in = weight.len() / gain.len();
        let scaled =
            weight.chunks_exact(fan_in).zip(&gain).flat_map(|(row, g)| row.iter().map(move |w| w * g));
        let weight = Tensor::new(&scaled.collect::<Vec<_>>(), &self.weight.shape());
        let folded = Arc::new(Folded { version, weight, bias: Tensor::new(&bias, &[gain.len()]) });
        *cache = Some(folded.clone());
        folded
    }
}

impl BatchNorm {
    /// Moves the running statistics towards those of a batch, whose variance is corrected to be unbiased.
    fn track(&self, batch: &ops::BatchStatistics, correction: f32) {
        let towards = |running: &Param, batch: &Tensor, factor: f32| {
            no_grad(|| {
                let old = ops::scale(&running.value(), 1.0 - MOMENTUM);
                running.assign(&ops::add(&old, &ops::scale(&batch.detach(), MOMENTUM * factor)));
            });
        };
        towards(&self.running_mean, &batch.mean, 1.0);
        towards(&self.running_var, &batch.variance, correction);
    }
}
