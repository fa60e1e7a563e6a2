//! The device without memory.

use std::sync::Arc;

use tuwen_kernels::{
    Activation, AdamW, AttentionShape, ConvShape, Dropout, Precision, mlp_kept_len, self_attention_kept_len,
};

use super::ledger::{Held, HeldPacked, compute};
use crate::Targets;
use crate::device::{
    Buffer, Device, Epilogue, MlpGradients, MlpWeights, Normed, Packed, SelfAttended, StepBuffers, Weight,
};

/// The device whose buffers have lengths and no memory.
#[derive(Debug, Clone, Copy)]
pub struct Meter;

/// The module in which a buffer was made. Buffers of other devices belong to none.
fn module(buffer: &Buffer) -> Option<&Arc<str>> {
    buffer.try_storage::<Held>().map(|held| &held.module)
}

/// The innermost module that holds both, by the dots of their paths.
fn common(a: &Arc<str>, b: &Arc<str>) -> Arc<str> {
    if a == b {
        return a.clone();
    }
    let parts = a.split('.').zip(b.split('.')).take_while(|(x, y)| x == y);
    let end: usize = parts.map(|(x, _)| x.len() + 1).sum();
    a[..end.saturating_sub(1)].into()
}

/// The module of an operation on these buffers.
fn module_of(inputs: &[&Buffer]) -> Arc<str> {
    let modules = inputs.iter().filter_map(|input| module(input)).filter(|module| !module.is_empty());
    modules.cloned().reduce(|a, b| common(&a, &b)).unwrap_or_default()
}

fn module_of_weight(weight: Weight) -> Arc<str> {
    match weight {
        Weight::Buffer(buffer) => module_of(&[buffer]),
        Weight::Host(_) => Arc::default(),
    }
}

fn hold(module: Arc<str>, len: usize) -> Buffer {
    Buffer::new(Held::new(module, len), len)
}

/// The result of an operation on these buffers.
fn made(len: usize, inputs: &[&Buffer]) -> Buffer {
    hold(module_of(inputs), len)
}

/// A product of `rows` by `depth` by `columns`.
fn product(module: &Arc<str>, rows: usize, depth: usize, columns: usize) {
    compute(module, 2 * rows as u64 * depth as u64 * columns as u64, 0);
}

/// Products of an attention with scores of this shape.
fn attention_products(products: u64, shape: &AttentionShape) -> u64 {
    let scores = [shape.batch, shape.heads, shape.query_len, shape.key_len, shape.head_dim];
    2 * products * scores.iter().map(|&n| n as u64).product::<u64>()
}

fn window(shape: &ConvShape) -> usize {
    shape.kernel * shape.kernel * shape.in_channels
}

fn out_pixels(shape: &ConvShape) -> usize {
    shape.batch * shape.out_height() * shape.out_width()
}

fn convolution(module: &Arc<str>, shape: &ConvShape) {
    product(module, out_pixels(shape), window(shape), shape.out_channels);
}

impl Meter {
    pub(crate) fn unnamed(&self, len: usize) -> Buffer {
        hold(Arc::default(), len)
    }

    /// A parameter belongs to the module that its name is in; one without a module is its own.
    pub(crate) fn parameter(&self, name: &str, len: usize) -> Buffer {
        hold(name.rsplit_once('.').map_or(name, |(module, _)| module).into(), len)
    }
}

impl Device for Meter {
    fn name(&self) -> String {
        "meter".to_owned()
    }

    fn upload(&self, values: &[f32]) -> Buffer {
        self.unnamed(values.len())
    }

    fn full(&self, len: usize, _value: f32) -> Buffer {
        self.unnamed(len)
    }

    fn read(&self, buffer: &Buffer) -> Vec<f32> {
        vec![0.0; buffer.len()]
    }

    fn pack_linear(&self, weight: Weight, out: usize, inner: usize, precision: Precision) -> Packed {
        Packed::new(HeldPacked::new(module_of_weight(weight), [inner, out], precision))
    }

    fn pack_linear_backward(
        &self,
        weight: &Buffer,
        out: usize,
        inner: usize,
        precision: Precision,
    ) -> Packed {
        Packed::new(HeldPacked::new(module_of(&[weight]), [out, inner], precision))
    }

    fn linear(&self, _x: &Buffer, weight: &Packed, rows: usize, _epilogue: Epilogue) -> Buffer {
        let weight = weight.get::<HeldPacked>();
        product(&weight.module, rows, weight.depth, weight.columns);
        hold(weight.module.clone(), rows * weight.columns)
    }

    fn matmul(
        &self,
        [(a, _), (b, _)]: [(&Buffer, bool); 2],
        [m, k, n]: [usize; 3],
        _precision: Precision,
    ) -> Buffer {
        let module = module_of(&[a, b]);
        product(&module, m, k, n);
        hold(module, m * n)
    }

    fn mlp(
        &self,
        _x: &Buffer,
        weights: MlpWeights,
        rows: usize,
        _residual: Option<&Buffer>,
    ) -> (Buffer, Buffer) {
        let [fc1, fc2] = [weights.fc1, weights.fc2].map(|weight| weight.get::<HeldPacked>());
        let kept = mlp_kept_len(fc1.precision, rows * fc1.columns);
        [fc1, fc2].iter().for_each(|fc| product(&fc.module, rows, fc.depth, fc.columns));
        (hold(fc2.module.clone(), rows * fc2.columns), hold(fc1.module.clone(), kept))
    }

    fn mlp_backward(&self, _dy: &Buffer, kept: Buffer, weights: MlpWeights, rows: usize) -> MlpGradients {
        let [fc2, fc1] = [weights.fc2, weights.fc1].map(|weight| weight.get::<HeldPacked>());
        let activated = match fc1.precision {
            Precision::F32 => kept,
            Precision::Bf16 | Precision::Int8 => hold(fc2.module.clone(), rows * fc2.columns),
        };
        let [dz, dx] = [fc2, fc1].map(|fc| {
            product(&fc.module, rows, fc.depth, fc.columns);
            hold(fc.module.clone(), rows * fc.columns)
        });
        MlpGradients { dx, activated, dz, dbias1: hold(fc1.module.clone(), fc1.depth) }
    }

    fn pack_conv(&self, weight: Weight, shape: &ConvShape, precision: Precision) -> Packed {
        Packed::new(HeldPacked::new(module_of_weight(weight), [window(shape), shape.out_channels], precision))
    }

    fn conv2d(&self, _x: &Buffer, weight: &Packed, shape: &ConvShape, _epilogue: Epilogue) -> Buffer {
        let module = &weight.get::<HeldPacked>().module;
        convolution(module, shape);
        hold(module.clone(), out_pixels(shape) * shape.out_channels)
    }

    fn conv2d_backward_input(&self, _dy: &Buffer, weight: &Buffer, shape: &ConvShape) -> Buffer {
        let module = module_of(&[weight]);
        convolution(&module, shape);
        hold(module, shape.batch * shape.height * shape.width * shape.in_channels)
    }

    fn conv2d_backward_weight(&self, _x: &Buffer, dy: &Buffer, shape: &ConvShape) -> Buffer {
        let module = module_of(&[dy]);
        convolution(&module, shape);
        hold(module, shape.out_channels * window(shape))
    }

    fn attention(
        &self,
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
        _key_mask: Option<&[bool]>,
        shape: &AttentionShape,
    ) -> (Buffer, Buffer) {
        let module = module_of(&[q, k, v]);
        compute(&module, attention_products(2, shape), k.len() + v.len());
        let lse = hold(module.clone(), shape.batch * shape.heads * shape.query_len);
        (hold(module, q.len()), lse)
    }

    fn attention_to_steps(&self, q: &Buffer, steps: &[StepBuffers<'_>], shape: &AttentionShape) -> Buffer {
        let module = module_of(&[q]);
        let keys_values = steps.iter().flat_map(|step| step.keys_values).map(Buffer::len).sum();
        compute(&module, attention_products(2, shape), keys_values);
        hold(module, q.len())
    }

    fn attention_backward(
        &self,
        inputs: [&Buffer; 3],
        _out: &Buffer,
        _lse: &Buffer,
        _dout: &Buffer,
        _key_mask: Option<&[bool]>,
        shape: &AttentionShape,
    ) -> [Buffer; 3] {
        let module = module_of(&inputs);
        // The scores once more, then the gradients of weights, queries, keys and values.
        compute(&module, attention_products(5, shape), 0);
        inputs.map(|input| hold(module.clone(), input.len()))
    }

    fn self_attention(
        &self,
        qkv: Buffer,
        _key_mask: Option<&[bool]>,
        shape: &AttentionShape,
    ) -> SelfAttended {
        let module = module_of(&[&qkv]);
        compute(&module, attention_products(2, shape), 2 * qkv.len() / 3);
        let lse = hold(module.clone(), shape.batch * shape.heads * shape.query_len);
        let out = hold(module.clone(), qkv.len() / 3);
        let kept = match shape.precision {
            Precision::F32 => qkv,
            Precision::Bf16 | Precision::Int8 => hold(module, self_attention_kept_len(shape)),
        };
        SelfAttended { out, lse, kept }
    }

    fn self_attention_backward(
        &self,
        kept: Buffer,
        out: &Buffer,
        _lse: &Buffer,
        _dout: &Buffer,
        _key_mask: Option<&[bool]>,
        shape: &AttentionShape,
    ) -> Buffer {
        let module = module_of(&[&kept]);
        compute(&module, attention_products(5, shape), 0);
        hold(module, 3 * out.len())
    }

    fn attention_weights(
        &self,
        q: &Buffer,
        k: &Buffer,
        _key_mask: Option<&[bool]>,
        shape: &AttentionShape,
    ) -> Buffer {
        let module = module_of(&[q, k]);
        compute(&module, attention_products(1, shape), 0);
        hold(module, shape.batch * shape.heads * shape.query_len * shape.key_len)
    }

    fn layer_norm(&self, x: &Buffer, gamma: &Buffer, _beta: &Buffer, _eps: f32) -> Normed {
        let rows = x.len() / gamma.len().max(1);
        let made = |len| made(len, &[gamma]);
        Normed { mean: made(rows), spread: made(rows), y: made(x.len()) }
    }

    fn layer_norm_backward(
        &self,
        _: &Buffer,
        x: &Buffer,
        gamma: &Buffer,
        _: [&Buffer; 2],
        dx: Option<Buffer>,
    ) -> [Buffer; 3] {
        let made = |len| made(len, &[gamma]);
        [dx.unwrap_or_else(|| made(x.len())), made(gamma.len()), made(gamma.len())]
    }

    fn batch_norm(
        &self,
        x: &Buffer,
        gamma: &Buffer,
        _beta: &Buffer,
        _residual: Option<&Buffer>,
        _relu: bool,
        _eps: f32,
    ) -> Normed {
        let made = |len| made(len, &[gamma]);
        Normed { mean: made(gamma.len()), spread: made(gamma.len()), y: made(x.len()) }
    }

    fn batch_norm_backward(
        &self,
        _dy: &Buffer,
        x: &Buffer,
        _y: &Buffer,
        gamma: &Buffer,
        _normed: [&Buffer; 2],
        residual: bool,
        _relu: bool,
        _eps: f32,
    ) -> ([Buffer; 3], Option<Buffer>) {
        let dresidual = residual.then(|| made(x.len(), &[gamma]));
        ([x.len(), gamma.len(), gamma.len()].map(|len| made(len, &[gamma])), dresidual)
    }

    fn l2_normalize(&self, x: &Buffer, cols: usize, _eps: f32) -> (Buffer, Buffer) {
        (made(x.len(), &[x]), made(x.len() / cols.max(1), &[x]))
    }

    fn l2_normalize_backward(&self, _dy: &Buffer, y: &Buffer, _: &Buffer, _: usize, _: f32) -> Buffer {
        made(y.len(), &[y])
    }

    fn activate(&self, _activation: Activation, x: &Buffer) -> Buffer {
        made(x.len(), &[x])
    }

    fn activate_backward(&self, _activation: Activation, x: &Buffer, _dy: &Buffer) -> Buffer {
        made(x.len(), &[x])
    }

    fn softmax(&self, x: &Buffer, _cols: usize) -> Buffer {
        made(x.len(), &[x])
    }

    fn cross_entropy(&self, logits: &Buffer, _targets: Targets<'_>, cols: usize) -> (Buffer, Buffer) {
        (made(logits.len() / cols.max(1), &[logits]), made(logits.len(), &[logits]))
    }

    fn binary_cross_entropy(&self, logits: &Buffer, targets: Targets<'_>, cols: usize) -> (Buffer, Buffer) {
        self.cross_entropy(logits, targets, cols)
    }

    fn gather_rows(&self, table: &Buffer, cols: usize, ids: &[u32]) -> Buffer {
        made(ids.len() * cols, &[table])
    }

    fn scatter_add_rows(&self, dout: &Buffer, cols: usize, _ids: &[u32], rows: usize) -> Buffer {
        made(rows * cols, &[dout])
    }

    fn avg_pool2d(&self, x: &Buffer, [batch, height, width, channels]: [usize; 4], k: usize) -> Buffer {
        made(batch * (height / k) * (width / k) * channels, &[x])
    }

    fn avg_pool2d_backward(&self, dy: &Buffer, size: [usize; 4], _k: usize) -> Buffer {
        made(size.iter().product(), &[dy])
    }

    fn permute(&self, x: &Buffer, _shape: &[usize], _axes: &[usize]) -> Buffer {
        made(x.len(), &[x])
    }

    fn join(&self, parts: &[&Buffer]) -> Buffer {
        made(parts.iter().map(|part| part.len()).sum(), parts)
    }

    fn copy_blocks(
        &self,
        _src: &Buffer,
        _src_at: (usize, usize),
        _dst: &mut Buffer,
        _dst_at: (usize, usize),
        _blocks: usize,
        _len: usize,
    ) {
    }

    fn add(&self, a: &Buffer, b: &Buffer) -> Buffer {
        made(a.len(), &[a, b])
    }

    fn add_assign(&self, _y: &mut Buffer, _x: &Buffer) {}

    fn lerp(&self, _y: &mut Buffer, _x: &Buffer, _weight: f32) {}

    fn mul(&self, a: &Buffer, b: &Buffer) -> Buffer {
        made(a.len(), &[a, b])
    }

    fn scale(&self, x: &Buffer, _factor: f32) -> Buffer {
        made(x.len(), &[x])
    }

    fn dropout(&self, x: &Buffer, _dropout: Dropout) -> Buffer {
        made(x.len(), &[x])
    }

    fn exp(&self, x: &Buffer) -> Buffer {
        made(x.len(), &[x])
    }

    fn sum(&self, x: &Buffer) -> Buffer {
        made(1, &[x])
    }

    fn column_sums(&self, x: &Buffer, cols: usize) -> Buffer {
        made(cols, &[x])
    }

    fn mean_axis(&self, x: &Buffer, outer: usize, _len: usize, inner: usize) -> Buffer {
        made(outer * inner, &[x])
    }

    fn repeat_axis(&self, x: &Buffer, outer: usize, len: usize, inner: usize, _factor: f32) -> Buffer {
        made(outer * len * inner, &[x])
    }

    fn sum_squares(&self, _x: &Buffer) -> f64 {
        0.0
    }

    fn adamw(&self, _: &mut Buffer, _: &Buffer, _: &mut Buffer, _: &mut Buffer, _: &AdamW) {}
}
