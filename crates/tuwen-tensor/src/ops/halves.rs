//! Keys and values in bf16 for attention that rounds them anyway, as they are kept while a text is written.

use crate::Tensor;
use crate::tape::needs_tape;

/// `x`, rounded to bf16 and kept in half of the memory, for [`super::attention`] as keys or values alone. `x` itself where the
/// device has no such form, or where a gradient is asked for.
pub fn to_halves(x: &Tensor) -> Tensor {
    let rounded = if needs_tape(&[x]) { None } else { x.device().halves(x.buffer()) };
    rounded.map_or_else(|| x.clone(), |rounded| Tensor::from_buffer(x.device(), rounded, x.shape()))
}

/// The numbers of [`to_halves`]; of another tensor the tensor itself.
pub fn from_halves(x: &Tensor) -> Tensor {
    match x.device().numbers(x.buffer()) {
        Some(numbers) => Tensor::from_buffer(x.device(), numbers, x.shape()),
        None => x.clone(),
    }
}
