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
    let packed = weight.packed(|values| device.pack_conv(values, &shape, weight.precision()));
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
    // A frozen weight keeps no input alive, and an input that needs no gradient no weight.
    let saved_x = weight.requires_grad().then(|| x.detach());
    let saved_weight = x.requires_grad().then(|| weight.detach());
    let (x_shape, weight_shape) = (x.shape().to_vec(), weight.shape().to_vec());
    record(y, &[x, weight], move |dy| {
        let dx = saved_weight.map(|weight| {
            let dx = device.conv2d_backward_input(dy.buffer(), weight.buffer(), &shape);
            Tensor::from_buffer(device, dx, &x_shape)
        });
        let dw = saved_x.map(|x| {
            let dw = device.conv2d_backward_weight(x.buffer(), dy.buffer(), &shape);
            Tensor::from_buffer(device, dw, &weight_shape)
        });
        vec![dx, dw]
    })
}
