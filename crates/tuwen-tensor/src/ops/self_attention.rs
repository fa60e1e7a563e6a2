//! Attention of sequences to themselves, with the projections to queries, keys and values.

use tuwen_kernels::Activation;

use super::attention::{self, AttentionMask, attention};
use super::linear::{Layer, linear};
use crate::Tensor;
use crate::device::{Buffer, Device, SelfAttended, Weight};
use crate::tape::{needs_tape, record};

/// [`attention`] of `q(x)` to `k(x)` and `v(x)`.
///
/// Shapes: x `[batch, tokens, in]`, each weight `[width, in]`, the result `[batch, tokens, width]`. As three calls of
/// [`linear`] and one of [`attention`], but on the tape the three projections are one product, and so are their gradients.
pub fn self_attention(x: &Tensor, [q, k, v]: [Layer; 3], heads: usize, mask: AttentionMask) -> Tensor {
    let weights = [q.weight, k.weight, v.weight];
    let biases: Vec<&Tensor> = [q, k, v].iter().filter_map(|layer| layer.bias).collect();
    let inputs = [&[x], &weights[..], &biases].concat();
    let precision = q.weight.precision();
    let alike = weights.iter().all(|w| w.shape() == q.weight.shape() && w.precision() == precision)
        && [0, 3].contains(&biases.len());
    if !needs_tape(&inputs) || !alike {
        let [q, k, v] =
            [q, k, v].map(|layer| linear(x, layer.weight, layer.bias, Activation::Identity, None));
        return attention(&q, &k, &v, heads, mask, precision);
    }
    let device = x.device();
    let [width, inner] = q.size();
    let [batch, tokens, x_inner] = x.dims();
    assert_eq!(x_inner, inner, "self-attention of {:?} with a weight {:?}", x.shape(), q.weight.shape());
    let rows = batch * tokens;
    let size = [batch, tokens, width];
    let shape = attention::shape(&size, &size, heads, &mask, precision.of_activations());
    let packed = device.pack_linear(Weight::Buffer(&beside(device, &weights)), 3 * width, inner, precision);
    let bias = (!biases.is_empty()).then(|| beside(device, &biases));
    let epilogue = crate::device::Epilogue { bias: bias.as_ref(), ..Default::default() };
    let qkv = device.linear(x.buffer(), &packed, rows, epilogue);
    let SelfAttended { out, lse, kept } = device.self_attention(qkv, mask.keys, &shape);
    let out = Tensor::from_buffer(device, out, &size);

    let learns = |tensors: &[&Tensor]| tensors.iter().map(|t| t.requires_grad()).collect::<Vec<_>>();
    let (weights_learn, biases_learn) = (learns(&weights), learns(&biases));
    let (saved_x, saved_out, weights) = (x.detach(), out.clone(), weights.map(Tensor::detach));
    let keys = mask.keys.map(<[bool]>::to_vec);
    record(out, &inputs, move |dout| {
        let (out, dout) = (saved_out.buffer(), dout.buffer());
        let dqkv = device.self_attention_backward(kept, out, &lse, dout, keys.as_deref(), &shape);
        let weight = beside(device, &weights.each_ref());
        let operands = [(&dqkv, false), (&weight, false)];
        let dx = device.matmul(operands, [rows, 3 * width, inner], precision);
        let mut gradients = vec![Some(Tensor::from_buffer(device, dx, saved_x.shape()))];
        gradients.extend(parts(device, &weights_learn, weights[0].shape(), || {
            device.matmul([(&dqkv, true), (saved_x.buffer(), false)], [3 * width, rows, inner], precision)
        }));
        gradients.extend(parts(device, &biases_learn, &[width], || device.column_sums(&dqkv, 3 * width)));
        gradients
    })
}

/// The numbers of tensors one after another.
fn beside(device: &dyn Device, parts: &[&Tensor]) -> Buffer {
    device.join(&parts.iter().map(|part| part.buffer()).collect::<Vec<_>>())
}

/// Gradients of this shape that stand one after another in `joined`, for those that learn.
fn parts(
    device: &'static dyn Device,
    learn: &[bool],
    shape: &[usize],
    joined: impl FnOnce() -> Buffer,
) -> Vec<Option<Tensor>> {
    if !learn.contains(&true) {
        return learn.iter().map(|_| None).collect();
    }
    let (joined, len) = (joined(), shape.iter().product());
    let part = |(i, &learns): (usize, &bool)| {
        learns.then(|| {
            let mut part = device.full(len, 0.0);
            device.copy_blocks(&joined, (i * len, 0), &mut part, (0, 0), 1, len);
            Tensor::from_buffer(device, part, shape)
        })
    };
    learn.iter().enumerate().map(part).collect()
}
