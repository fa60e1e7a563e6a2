//! A convolution followed by batch normalisation, which inference folds into one.

use std::sync::{Arc, Mutex};

use tuwen_tensor::{Activation, Deferred, Param, Precision, Tensor, no_grad, ops};

use crate::{Init, Pass, Scope};

/// `torch.nn.BatchNorm2d`'s defaults.
const EPS: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

/// Convolution without bias, batch normalisation, optional residual and ReLU; channels last.
///
/// Training normalises with the statistics of the batch. Where the norm's weight and bias are frozen, its running
/// statistics hold, and stay, in training too.
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
        let weight = conv_scope.weight("weight", &[out, inner, kernel, kernel], init);
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
            return self.forward_folded(x, residual, relu, &self.fold());
        }
        if self.norm.is_frozen() {
            let folded = if self.weight.is_trainable() { Arc::new(self.fold_on_tape()) } else { self.fold() };
            return self.forward_folded(x, residual, relu, &folded);
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

    fn forward_folded(&self, x: &Tensor, residual: Option<&Tensor>, relu: bool, folded: &Folded) -> Tensor {
        let convolve = |bias, residual, relu| {
            ops::conv2d(x, &folded.weight, self.stride, self.padding(), bias, residual, relu)
        };
        // What learns below needs a gradient through each part.
        let learns =
            [Some(x), residual, Some(&folded.weight)].into_iter().flatten().any(Tensor::requires_grad);
        if !learns {
            return convolve(Some(&folded.bias), residual, relu);
        }
        let mut y = ops::add(&convolve(None, None, false), &folded.bias);
        if let Some(residual) = residual {
            y = ops::add(&y, residual);
        }
        if relu { ops::activate(Activation::Relu, &y) } else { y }
    }

    /// `relu(norm(conv(x)))` of images `[batch, in, height, width]` in inference as [`ops::conv2d_to_maps`] has it, where there is that.
    pub fn to_maps(&self, x: &Tensor, exact: bool) -> Option<Tensor> {
        let Folded { weight, bias, .. } = &*self.fold();
        ops::conv2d_to_maps(x, weight, self.stride, self.padding(), bias, true, exact)
    }

    /// Whether what [`ops::conv2d_to_maps`] gives can be convolved with it: its activations are of this precision, and its weight
    /// of whole vectors of channels.
    pub fn takes_maps(&self, precision: Precision) -> bool {
        const CHANNELS: usize = 32;
        let weight = self.weight.value();
        let [out, inner, ..] = weight.dims::<4>();
        self.stride == 1
            && weight.precision().of_activations() == precision
            && out.is_multiple_of(CHANNELS)
            && inner.is_multiple_of(CHANNELS)
    }

    /// The convolution alone.
    pub fn convolve(&self, x: &Tensor) -> Tensor {
        ops::conv2d(x, &self.weight.value(), self.stride, self.padding(), None, None, false)
    }

    fn padding(&self) -> usize {
        self.weight.shape()[2] / 2
    }

    fn fold(&self) -> Arc<Folded> {
        let version = self.version();
        let mut cache = self.folded.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(folded) = cache.as_ref().filter(|folded| folded.version == version) {
            return folded.clone();
        }
        let folded = Arc::new(no_grad(|| self.fold_on_tape()));
        *cache = Some(folded.clone());
        folded
    }

    /// The convolution with the norm in it, on the tape where its weight learns.
    fn fold_on_tape(&self) -> Folded {
        let norm = &self.norm;
        let [gamma, beta, mean, var] = [&norm.weight, &norm.bias, &norm.running_mean, &norm.running_var]
            .map(|param| param.value().to_vec());
        let gain: Vec<f32> = gamma.iter().zip(&var).map(|(g, v)| g / (v + EPS).sqrt()).collect();
        let bias: Vec<f32> = beta.iter().zip(&mean).zip(&gain).map(|((b, m), g)| b - m * g).collect();
        let weight = self.weight.value();
        let precision = weight.precision();
        let weight = if weight.is_deferred() && !weight.requires_grad() {
            Tensor::deferred(weight.shape(), ScaledRows { weight: weight.clone(), factors: gain.clone() })
        } else {
            scale_rows(&weight, &gain)
        };
        let weight = weight.with_precision(precision);
        let bias = Tensor::on(weight.device(), &bias, &[gain.len()]);
        Folded { version: self.version(), weight, bias }
    }

    /// Changes whenever what is folded does.
    fn version(&self) -> [u64; 5] {
        let norm = &self.norm;
        [&self.weight, &norm.weight, &norm.bias, &norm.running_mean, &norm.running_var].map(Param::version)
    }
}

/// A loaded weight whose rows are multiplied by factors when it is packed.
struct ScaledRows {
    weight: Tensor,
    factors: Vec<f32>,
}

impl Deferred for ScaledRows {
    fn with_values(&self, read: &mut dyn FnMut(&[f32])) {
        let mut scaled = self.weight.to_vec();
        let columns = scaled.len() / self.factors.len().max(1);
        for (row, factor) in scaled.chunks_exact_mut(columns.max(1)).zip(&self.factors) {
            row.iter_mut().for_each(|value| *value *= factor);
        }
        read(&scaled);
    }
}

/// Multiplies each row of a weight `[rows, ...]` by its factor.
fn scale_rows(weight: &Tensor, factors: &[f32]) -> Tensor {
    let columns = weight.elements() / factors.len().max(1);
    let factors = Tensor::on(weight.device(), factors, &[factors.len()]);
    let spread = ops::permute(&ops::repeat_axis(&factors, columns), &[1, 0]);
    ops::mul(weight, &spread.reshape(weight.shape()))
}

impl BatchNorm {
    fn is_frozen(&self) -> bool {
        !self.weight.is_trainable() && !self.bias.is_trainable()
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Parameters;

    fn layer() -> (ConvBatchNorm, Parameters) {
        let scope = Scope::init(3);
        let layer = ConvBatchNorm::new([2, 3, 3, 1], 1.0, &scope.enter("conv"), &scope.enter("bn"));
        let parameters = scope.finish().expect("nothing is loaded");
        let set = |name: &str, values: &[f32]| {
            parameters.get(name).expect("there").param.assign(&Tensor::new(values, &[3]));
        };
        set("bn.running_mean", &[0.3, -0.2, 0.1]);
        set("bn.running_var", &[0.5, 2.0, 1.5]);
        set("bn.bias", &[0.1, 0.2, -0.3]);
        (layer, parameters)
    }

    fn wave(shape: &[usize], phase: f32) -> Tensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * 0.9 + phase).sin()).collect();
        Tensor::new(&values, shape)
    }

    #[test]
    fn a_frozen_layer_keeps_its_statistics_and_passes_gradients_on() {
        let (layer, parameters) = layer();
        let (x, residual) = (wave(&[2, 4, 4, 2], 0.0), wave(&[2, 4, 4, 3], 1.0));
        let run = |x: &Tensor, pass: &Pass| layer.forward(x, Some(&residual), true, pass);
        let inference = run(&x, &Pass::eval()).to_vec();
        let mean = || parameters.get("bn.running_mean").expect("there").param.value().to_vec();
        for entry in parameters.trainable() {
            entry.param.set_trainable(false);
        }
        let off_tape = run(&x, &Pass::train());
        assert!(!off_tape.requires_grad());
        assert_eq!(off_tape.to_vec(), inference);
        let leaf = x.leaf();
        let on_tape = run(&leaf, &Pass::train());
        assert!(on_tape.to_vec().iter().zip(&inference).all(|(a, b)| (a - b).abs() < 1e-5));
        assert_eq!(mean(), [0.3, -0.2, 0.1]);

        // The gradient of the sum along one direction, against a difference.
        let gradient = ops::sum(&on_tape).backward().take(&leaf).expect("x is a leaf").to_vec();
        let direction = wave(&[2, 4, 4, 2], 2.0);
        let slope: f32 = gradient.iter().zip(direction.to_vec()).map(|(g, d)| g * d).sum();
        let moved = |step: f32| {
            let moved = ops::add(&x, &ops::scale(&direction, step));
            run(&moved, &Pass::train()).to_vec().into_iter().map(f64::from).sum::<f64>()
        };
        let difference = ((moved(1e-3) - moved(-1e-3)) / 2e-3) as f32;
        assert!((slope - difference).abs() < 2e-2 * difference.abs().max(1.0), "{slope} {difference}");

        parameters.get("bn.bias").expect("there").param.set_trainable(true);
        run(&x, &Pass::train());
        assert_ne!(mean(), [0.3, -0.2, 0.1], "one that learns tracks its batches");
    }
}
