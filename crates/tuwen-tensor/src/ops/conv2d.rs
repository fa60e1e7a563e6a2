//! Two-dimensional convolution in channels-last layout, with bias, residual and ReLU fused in inference.

use tuwen_kernels::{Activation, ConvShape};

use crate::Tensor;
use crate::device::Epilogue;
use crate::tape::{needs_tape, record};

/// `relu(conv(x) + bias + residual)`; bias and residual are for inference (a folded batch norm) and off the tape.
///
/// Shapes: x `[batch, height, width, in]`, weight `[out, in, kernel, kernel]`, bias `[out]`; the result and the
/// residual are `[batch, height', width', out]` with `height' = (height + 2 padding - kernel) / stride + 1`.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    stride: usize,
    padding: usize,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    relu: bool,
) -> Tensor {
    let [batch, height, width, in_channels] = x.dims();
    let [out_channels, weight_in, kernel, kernel_width] = weight.dims();
    assert!(
        in_channels == weight_in && kernel == kernel_width,
        "convolution of {:?} with a weight {:?}",
        x.shape(),
        weight.shape()
    );
    let shape = ConvShape { batch, height, width, in_channels, out_channels, kernel, stride, padding };
    let device = x.device();
    let packed = weight.packed(|| device.pack_conv(weight.buffer(), &shape));
    let epilogue = Epilogue {
        bias: bias.map(Tensor::buffer),
        activation: relu.then_some(Activation::Relu),
        residual: residual.map(Tensor::buffer),
        residual_first: true,
    };
    let y = device.conv2d(x.buffer(), packed, &shape, epilogue);
    let y = Tensor::from_buffer(device, y, &[batch, shape.out_height(), shape.out_width(), out_channels]);
    if !needs_tape(&[x, weight]) {
        return y;
    }
    assert!(bias.is_none() && residual.is_none() && !relu, "a recorded convolution has no epilogue");
    let (saved_x, saved_weight, x_needs) = (x.detach(), weight.detach(), x.requires_grad());
    let weight_needs = weight.requires_grad();
    record(y, &[x, weight], move |dy| {
        let dx = x_needs.then(|| {
            let dx = device.conv2d_backward_input(dy.buffer(), saved_weight.buffer(), &shape);
            Tensor::from_buffer(device, dx, saved_x.shape())
        });
        let dw = weight_needs.then(|| {
            let dw = device.conv2d_backward_weight(saved_x.buffer(), dy.buffer(), &shape);
            Tensor::from_buffer(device, dw, saved_weight.shape())
        });
        vec![dx, dw]
    })
}
