//! Feature maps in bf16 between the convolutions of a network in inference.

use tuwen_kernels::ConvShape;

use crate::Tensor;
use crate::tape::needs_tape;

/// `relu(conv(x) + bias)` in f32 of images `x [batch, in, height, width]` with a weight `[out, in, kernel, kernel]`, rounded to bf16:
/// `[batch, height / stride, width / stride, out]` for [`super::conv2d`] of stride 1 with weights in bf16 and
/// [`super::avg_pool2d`] of two by two alone, which keep that form. None where the device has no use for it, or where a
/// gradient is asked for.
///
/// `exact` keeps 16 significant bits of a number, for convolutions with weights in single precision.
pub fn conv2d_to_maps(
    x: &Tensor,
    weight: &Tensor,
    stride: usize,
    padding: usize,
    bias: &Tensor,
    relu: bool,
    exact: bool,
) -> Option<Tensor> {
    if needs_tape(&[x, weight, bias]) {
        return None;
    }
    let ([batch, in_channels, height, width], [out_channels, _, kernel, _]) = (x.dims(), weight.dims());
    let shape = ConvShape { batch, height, width, in_channels, out_channels, kernel, stride, padding };
    let parts = [weight, bias].map(Tensor::to_vec);
    let maps =
        x.device().conv2d_to_maps(x.buffer(), parts.each_ref().map(Vec::as_slice), &shape, relu, exact)?;
    Some(Tensor::from_buffer(x.device(), maps, &[batch, shape.out_height(), shape.out_width(), out_channels]))
}

/// The numbers of [`conv2d_to_maps`]; of another tensor the tensor itself.
pub fn from_maps(x: &Tensor) -> Tensor {
    match x.device().numbers(x.buffer()) {
        Some(numbers) => Tensor::from_buffer(x.device(), numbers, x.shape()),
        None => x.clone(),
    }
}
