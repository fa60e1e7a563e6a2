//! Feature maps in bf16 between the convolutions of a network in inference.

use crate::Tensor;
use crate::tape::needs_tape;

/// `x [batch, height, width, channels]`, rounded to bf16, for [`super::conv2d`] of stride 1 with weights in bf16 and
/// [`super::avg_pool2d`] of two by two alone, which keep that form. None where the device has no use for it, or where a
/// gradient is asked for.
///
/// `exact` keeps 16 significant bits of a number, for convolutions with weights in single precision.
pub fn to_maps(x: &Tensor, exact: bool) -> Option<Tensor> {
    if needs_tape(&[x]) {
        return None;
    }
    let maps = x.device().maps(x.buffer(), x.dims(), exact)?;
    Some(Tensor::from_buffer(x.device(), maps, x.shape()))
}

/// The numbers of [`to_maps`]; of another tensor the tensor itself.
pub fn from_maps(x: &Tensor) -> Tensor {
    match x.device().numbers(x.buffer()) {
        Some(numbers) => Tensor::from_buffer(x.device(), numbers, x.shape()),
        None => x.clone(),
    }
}
