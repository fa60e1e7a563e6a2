//! The device trait: where buffers live and operations run.

use std::any::Any;
use std::fmt::Debug;

use tuwen_kernels::{Activation, AdamW, AttentionShape, ConvShape, Dropout, Precision};

/// Memory of a device. Only its device knows what is inside; everyone else may ask for its length.
pub struct Buffer {
    storage: Box<dyn Any + Send + Sync>,
    len: usize,
}

impl Buffer {
    /// Wraps a device's own storage of `len` f32 elements.
    pub fn new(storage: impl Any + Send + Sync, len: usize) -> Self {
        Self { storage: Box::new(storage), len }
    }

    /// Number of f32 elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer holds no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The storage, for the device that made it.
    pub fn storage<T: 'static>(&self) -> &T {
        self.storage.downcast_ref().expect("a buffer stays on the device that made it")
    }

    /// The storage, if it is of this kind.
    pub(crate) fn try_storage<T: 'static>(&self) -> Option<&T> {
        self.storage.downcast_ref()
    }

    /// The storage for writing, for the device that made it.
    pub fn storage_mut<T: 'static>(&mut self) -> &mut T {
        self.storage.downcast_mut().expect("a buffer stays on the device that made it")
    }
}

/// The values of a weight that is to be packed.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// Held by the device.
    Buffer(&'a Buffer),
    /// On the host, for this once.
    Host(&'a [f32]),
}

/// A weight in the form that a device multiplies fastest; opaque like [`Buffer`].
pub struct Packed(Box<dyn Any + Send + Sync>);

impl Packed {
    /// Wraps a device's own packed form.
    pub fn new(packed: impl Any + Send + Sync) -> Self {
        Self(Box::new(packed))
    }

    /// The packed form, for the device that made it.
    pub fn get<T: 'static>(&self) -> &T {
        self.0.downcast_ref().expect("a packed weight stays on the device that made it")
    }
}

/// The result of a normalisation: values, and the statistics that its backward pass needs.
pub struct Normed {
    /// Normalised values, shaped as the input.
    pub y: Buffer,
    /// Mean of each row (layer norm) or channel (batch norm).
    pub mean: Buffer,
    /// Reciprocal standard deviation of each row (layer norm), or biased variance of each channel (batch norm).
    pub spread: Buffer,
}

/// What follows a matrix product or convolution, fused into its last pass:
/// `activation(product + bias + residual)` if `residual_first`, else `activation(product + bias) + residual`.
#[derive(Default, Clone, Copy)]
pub struct Epilogue<'a> {
    /// Added to each row.
    pub bias: Option<&'a Buffer>,
    /// Applied element by element.
    pub activation: Option<Activation>,
    /// Added element by element; shaped as the result.
    pub residual: Option<&'a Buffer>,
    /// Whether the residual is added before the activation (ResNet) or after it (transformers).
    pub residual_first: bool,
}

/// The weights of an MLP `fc2(activation(fc1(x)))`, packed for one direction.
#[derive(Clone, Copy)]
pub struct MlpWeights<'a> {
    /// By [`Device::pack_linear`] for the forward pass, by [`Device::pack_linear_backward`] for the other.
    pub fc1: &'a Packed,
    /// Of the forward pass.
    pub bias1: Option<&'a Buffer>,
    /// Between the two.
    pub activation: Activation,
    /// As `fc1`.
    pub fc2: &'a Packed,
    /// Of the forward pass.
    pub bias2: Option<&'a Buffer>,
}

/// What the backward pass of an MLP gives, for `rows` rows.
pub struct MlpGradients {
    /// Gradient of the input.
    pub dx: Buffer,
    /// The output of the activation, which the gradient of the second weight needs.
    pub activated: Buffer,
    /// Gradient of the activation's input.
    pub dz: Buffer,
    /// Gradient of the first bias.
    pub dbias1: Buffer,
}

/// The result of a self-attention.
pub struct SelfAttended {
    /// The output.
    pub out: Buffer,
    /// The log-sum-exp of each row of scores.
    pub lse: Buffer,
    /// Queries, keys and values for the backward pass, in bf16 where that is what they are multiplied in.
    pub kept: Buffer,
}

/// Keys and values `[rows, tokens, width]` of the tokens of a step of writing.
#[derive(Clone, Copy)]
pub struct StepBuffers<'a> {
    /// What queries are compared with, and what they get.
    pub keys_values: [&'a Buffer; 2],
    /// Tokens of each row.
    pub tokens: usize,
    /// The row that belongs to each of the sequences that ask.
    pub rows: &'a [u32],
}

/// Where buffers live and operations run. Buffers are f32, row-major and contiguous; each operation writes into a
/// fresh buffer. Nothing above this trait may assume that a buffer is host memory.
///
/// The backward operations are named after their forward one and return gradients in the order of its inputs.
#[allow(clippy::too_many_arguments)] // shapes travel as plain numbers
pub trait Device: Send + Sync + Debug {
    /// A name for people, such as `cpu (avx512, 2 threads)`.
    fn name(&self) -> String;
    /// Copies host values to the device.
    fn upload(&self, values: &[f32]) -> Buffer;
    /// A buffer of `len` equal values.
    fn full(&self, len: usize, value: f32) -> Buffer;
    /// A buffer of `len` values that are to be overwritten.
    fn scratch(&self, len: usize) -> Buffer {
        self.full(len, 0.0)
    }
    /// Copies a buffer to the host.
    fn read(&self, buffer: &Buffer) -> Vec<f32>;

    /// Packs a linear weight `[out, in]` for products of a precision.
    fn pack_linear(&self, weight: Weight, out: usize, inner: usize, precision: Precision) -> Packed;
    /// Packs a linear weight `[out, in]` for products of a gradient `[rows, out]` with it, which [`Device::linear`] computes.
    fn pack_linear_backward(&self, weight: &Buffer, out: usize, inner: usize, precision: Precision)
    -> Packed;
    /// `x [rows, in] · weightᵀ`, then the epilogue.
    fn linear(&self, x: &Buffer, weight: &Packed, rows: usize, epilogue: Epilogue) -> Buffer;
    /// `op(a) [m, k] · op(b) [k, n]` for `size` m, k, n; an operand marked as transposed is stored as `[k, m]` or `[n, k]`.
    /// [`Precision::Int8`] is for weights: here it is as [`Precision::Bf16`].
    fn matmul(&self, operands: [(&Buffer, bool); 2], size: [usize; 3], precision: Precision) -> Buffer;

    /// `fc2(activation(fc1(x))) + residual` of rows, and what the backward pass needs of it: the input of the activation, in
    /// bf16 where the weights are multiplied in less than single precision.
    fn mlp(
        &self,
        x: &Buffer,
        weights: MlpWeights,
        rows: usize,
        residual: Option<&Buffer>,
    ) -> (Buffer, Buffer);
    /// Gradients of [`Device::mlp`] from that of its result and what it kept.
    fn mlp_backward(&self, dy: &Buffer, kept: Buffer, weights: MlpWeights, rows: usize) -> MlpGradients;

    /// Packs a convolution weight `[out, in, kernel, kernel]` for convolutions of a precision.
    fn pack_conv(&self, weight: Weight, shape: &ConvShape, precision: Precision) -> Packed;
    /// Two-dimensional convolution of `x [batch, height, width, channels]`, then the epilogue.
    fn conv2d(&self, x: &Buffer, weight: &Packed, shape: &ConvShape, epilogue: Epilogue) -> Buffer;
    /// The convolution of images `x [batch, in, height, width]` with weight and bias as [`crate::ops::conv2d_to_maps`] has it, or None where
    /// the device has no such form.
    fn conv2d_to_maps(
        &self,
        _x: &Buffer,
        _parts: [&[f32]; 2],
        _shape: &ConvShape,
        _relu: bool,
        _exact: bool,
    ) -> Option<Buffer> {
        None
    }
    /// `x` in bf16 as [`crate::ops::to_halves`] has it, or None where the device has no such form.
    fn halves(&self, _x: &Buffer) -> Option<Buffer> {
        None
    }
    /// The numbers of what [`Device::conv2d_to_maps`] or [`Device::halves`] made; of other buffers None.
    fn numbers(&self, _x: &Buffer) -> Option<Buffer> {
        None
    }
    /// Gradient of [`Device::conv2d`] with respect to its input.
    fn conv2d_backward_input(&self, dy: &Buffer, weight: &Buffer, shape: &ConvShape) -> Buffer;
    /// Gradient of [`Device::conv2d`] with respect to its weight.
    fn conv2d_backward_weight(&self, x: &Buffer, dy: &Buffer, shape: &ConvShape) -> Buffer;

    /// Multi-head attention: the output and the log-sum-exp of each row of scores. Both keys and values may be what
    /// [`Device::halves`] made.
    fn attention(
        &self,
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
        key_mask: Option<&[bool]>,
        shape: &AttentionShape,
    ) -> (Buffer, Buffer);
    /// [`Device::attention`] to the keys and values of several steps of tokens, which lie apart.
    fn attention_to_steps(&self, q: &Buffer, steps: &[StepBuffers<'_>], shape: &AttentionShape) -> Buffer;
    /// Gradients of [`Device::attention`] with respect to q, k and v.
    fn attention_backward(
        &self,
        inputs: [&Buffer; 3],
        out: &Buffer,
        lse: &Buffer,
        dout: &Buffer,
        key_mask: Option<&[bool]>,
        shape: &AttentionShape,
    ) -> [Buffer; 3];
    /// [`Device::attention`] of sequences to themselves: queries, keys and values stand side by side in `qkv`.
    fn self_attention(&self, qkv: Buffer, key_mask: Option<&[bool]>, shape: &AttentionShape) -> SelfAttended;
    /// Gradient of [`Device::self_attention`] from what it gave.
    fn self_attention_backward(
        &self,
        kept: Buffer,
        out: &Buffer,
        lse: &Buffer,
        dout: &Buffer,
        key_mask: Option<&[bool]>,
        shape: &AttentionShape,
    ) -> Buffer;
    /// The attention probabilities `[batch, heads, queries, keys]`, for inspection.
    fn attention_weights(
        &self,
        q: &Buffer,
        k: &Buffer,
        key_mask: Option<&[bool]>,
        shape: &AttentionShape,
    ) -> Buffer;

    /// Layer normalisation of rows.
    fn layer_norm(&self, x: &Buffer, gamma: &Buffer, beta: &Buffer, eps: f32) -> Normed;
    /// Gradients of [`Device::layer_norm`] with respect to x, gamma and beta; the first is added to `dx` if that is given.
    fn layer_norm_backward(
        &self,
        dy: &Buffer,
        x: &Buffer,
        gamma: &Buffer,
        normed: [&Buffer; 2],
        dx: Option<Buffer>,
    ) -> [Buffer; 3];
    /// Batch normalisation with batch statistics, plus residual, plus ReLU.
    fn batch_norm(
        &self,
        x: &Buffer,
        gamma: &Buffer,
        beta: &Buffer,
        residual: Option<&Buffer>,
        relu: bool,
        eps: f32,
    ) -> Normed;
    /// Gradients of [`Device::batch_norm`] with respect to x, gamma, beta and the residual.
    fn batch_norm_backward(
        &self,
        dy: &Buffer,
        x: &Buffer,
        y: &Buffer,
        gamma: &Buffer,
        normed: [&Buffer; 2],
        residual: bool,
        relu: bool,
        eps: f32,
    ) -> ([Buffer; 3], Option<Buffer>);
    /// Scales rows to unit length: the values and the norms.
    fn l2_normalize(&self, x: &Buffer, cols: usize, eps: f32) -> (Buffer, Buffer);
    /// Gradient of [`Device::l2_normalize`].
    fn l2_normalize_backward(&self, dy: &Buffer, y: &Buffer, norm: &Buffer, cols: usize, eps: f32) -> Buffer;

    /// An activation, element by element.
    fn activate(&self, activation: Activation, x: &Buffer) -> Buffer;
    /// Gradient of [`Device::activate`] at the pre-activation `x`.
    fn activate_backward(&self, activation: Activation, x: &Buffer, dy: &Buffer) -> Buffer;
    /// Softmax of rows.
    fn softmax(&self, x: &Buffer, cols: usize) -> Buffer;
    /// Cross entropy of each row of logits against class numbers or soft targets, and its gradient.
    fn cross_entropy(&self, logits: &Buffer, targets: crate::Targets<'_>, cols: usize) -> (Buffer, Buffer);
    /// As [`Device::cross_entropy`], each logit being a question of its own.
    fn binary_cross_entropy(
        &self,
        logits: &Buffer,
        targets: crate::Targets<'_>,
        cols: usize,
    ) -> (Buffer, Buffer);

    /// Rows `ids` of a table.
    fn gather_rows(&self, table: &Buffer, cols: usize, ids: &[u32]) -> Buffer;
    /// Adds rows of `dout` to the rows `ids` of a zero table of `rows` rows.
    fn scatter_add_rows(&self, dout: &Buffer, cols: usize, ids: &[u32], rows: usize) -> Buffer;
    /// Average pooling of `[batch, height, width, channels]` with kernel = stride = `k`.
    fn avg_pool2d(&self, x: &Buffer, size: [usize; 4], k: usize) -> Buffer;
    /// Gradient of [`Device::avg_pool2d`]; `size` is that of the input.
    fn avg_pool2d_backward(&self, dy: &Buffer, size: [usize; 4], k: usize) -> Buffer;
    /// Reorders axes.
    fn permute(&self, x: &Buffer, shape: &[usize], axes: &[usize]) -> Buffer;
    /// Buffers one after another.
    fn join(&self, parts: &[&Buffer]) -> Buffer;
    /// Copies `blocks` of `len` elements: block i from `i * src_stride + src_start` to `i * dst_stride + dst_start`.
    fn copy_blocks(
        &self,
        src: &Buffer,
        src_at: (usize, usize),
        dst: &mut Buffer,
        dst_at: (usize, usize),
        blocks: usize,
        len: usize,
    );

    /// `a + b`, where b repeats over the leading elements of a.
    fn add(&self, a: &Buffer, b: &Buffer) -> Buffer;
    /// `y += x`.
    fn add_assign(&self, y: &mut Buffer, x: &Buffer);
    /// `y += weight * (x - y)`, in place.
    fn lerp(&self, y: &mut Buffer, x: &Buffer, weight: f32);
    /// `a * b` element by element; a `b` of one element multiplies everything.
    fn mul(&self, a: &Buffer, b: &Buffer) -> Buffer;
    /// `x * factor`.
    fn scale(&self, x: &Buffer, factor: f32) -> Buffer;
    /// `x / (1 - rate)` but for a part `rate` of the elements, which become zero.
    fn dropout(&self, x: &Buffer, dropout: Dropout) -> Buffer;
    /// `eˣ`, element by element.
    fn exp(&self, x: &Buffer) -> Buffer;
    /// Sum of all elements, as one element.
    fn sum(&self, x: &Buffer) -> Buffer;
    /// Sums over the rows: one value for each of `cols` columns.
    fn column_sums(&self, x: &Buffer, cols: usize) -> Buffer;
    /// Mean over the middle axis of `[outer, len, inner]`.
    fn mean_axis(&self, x: &Buffer, outer: usize, len: usize, inner: usize) -> Buffer;
    /// Repeats each of `[outer, inner]` `len` times along a new middle axis, multiplied by `factor`.
    fn repeat_axis(&self, x: &Buffer, outer: usize, len: usize, inner: usize, factor: f32) -> Buffer;
    /// Sum of squares in double precision.
    fn sum_squares(&self, x: &Buffer) -> f64;

    /// One step of AdamW, in place.
    fn adamw(&self, param: &mut Buffer, grad: &Buffer, m: &mut Buffer, v: &mut Buffer, step: &AdamW);
}
