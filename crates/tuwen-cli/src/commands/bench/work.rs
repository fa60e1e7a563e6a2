//! What networks do, counted on shapes.

use tuwen_kernels::Precision;
use tuwen_nn::Parameters;
use tuwen_tensor::meter::measure;
use tuwen_tensor::no_grad;

/// Operations of a run after the first, in which norms are folded and weights packed.
pub fn flops(run: impl Fn()) -> u64 {
    no_grad(&run);
    measure(|| no_grad(&run)).1.flops
}

/// Bytes of some parameters, by their names: matrices in their precision, vectors in f32.
pub fn weight_bytes(parameters: &Parameters, precision: Precision, counts: impl Fn(&str) -> bool) -> u64 {
    let bytes = |entry: &tuwen_nn::Entry| {
        let value = entry.param.value();
        let width = if value.shape().len() < 2 { size_of::<f32>() } else { precision.weight_bytes() };
        (value.elements() * width) as u64
    };
    parameters.iter().filter(|entry| counts(&entry.name)).map(bytes).sum()
}
