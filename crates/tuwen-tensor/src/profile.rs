//! Where the time goes: a device that passes everything on to the CPU and notes how long each operation took.
//!
//! Its buffers are those of the CPU. A network runs on it once its parameters and inputs are made there
//! (`param.assign(&Tensor::on(&Profile, &values, shape))`).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tuwen_kernels::{Activation, AdamW, AttentionShape, ConvShape, Dropout, Precision};

use crate::Cpu;
use crate::device::{
    Buffer, Device, Epilogue, MlpGradients, MlpWeights, Normed, Packed, SelfAttended, StepBuffers, Weight,
};

/// The CPU, timed.
#[derive(Debug, Clone, Copy)]
pub struct Profile;

/// How often operations ran, and for how long altogether.
pub type Times = BTreeMap<String, (usize, Duration)>;

static TIMES: Mutex<Times> = Mutex::new(BTreeMap::new());

/// Takes what was noted since the last call, by operation; products come with their sizes.
pub fn take() -> Times {
    std::mem::take(&mut *TIMES.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

fn timed<T>(run: impl FnOnce() -> T, name: impl FnOnce(&T) -> String) -> T {
    let start = Instant::now();
    let result = run();
    let elapsed = start.elapsed();
    let name = name(&result);
    let mut times = TIMES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (calls, total) = times.entry(name).or_default();
    (*calls, *total) = (*calls + 1, *total + elapsed);
    result
}

/// Passes operations on to the CPU under their own names.
macro_rules! pass_on {
    ($(fn $name:ident(&self, $($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?;)*) => {$(
        fn $name(&self, $($arg: $ty),*) $(-> $ret)? {
            timed(|| Cpu.$name($($arg),*), |_| stringify!($name).to_owned())
        }
    )*};
}

impl Device for Profile {
    fn name(&self) -> String {
        Cpu.name()
    }

    fn linear(&self, x: &Buffer, weight: &Packed, rows: usize, epilogue: Epilogue) -> Buffer {
        let per_row = |buffer: &Buffer| buffer.len() / rows.max(1);
        let name = |y: &Buffer| format!("linear {rows} x {} x {}", per_row(x), per_row(y));
        timed(|| Cpu.linear(x, weight, rows, epilogue), name)
    }

    fn matmul(&self, operands: [(&Buffer, bool); 2], size: [usize; 3], precision: Precision) -> Buffer {
        let [m, k, n] = size;
        timed(|| Cpu.matmul(operands, size, precision), |_| format!("matmul {m} x {k} x {n}"))
    }

    fn conv2d(&self, x: &Buffer, weight: &Packed, shape: &ConvShape, epilogue: Epilogue) -> Buffer {
        let pixels = shape.batch * shape.out_height() * shape.out_width();
        let &ConvShape { in_channels, out_channels, kernel, stride, .. } = shape;
        let name = |_: &Buffer| {
            format!("conv2d /{stride} {pixels} x {kernel} x {kernel} x {in_channels} x {out_channels}")
        };
        timed(|| Cpu.conv2d(x, weight, shape, epilogue), name)
    }

    fn conv2d_to_maps(
        &self,
        x: &Buffer,
        parts: [&[f32]; 2],
        shape: &ConvShape,
        relu: bool,
        exact: bool,
    ) -> Option<Buffer> {
        timed(|| Cpu.conv2d_to_maps(x, parts, shape, relu, exact), |_| "conv2d_to_maps".to_owned())
    }

    fn numbers(&self, x: &Buffer) -> Option<Buffer> {
        timed(|| Cpu.numbers(x), |_| "from_maps".to_owned())
    }

    pass_on! {
    fn pack_linear_backward(&self, weight: &Buffer, out: usize, inner: usize, precision: Precision) -> Packed;
    fn mlp(&self, x: &Buffer, weights: MlpWeights, rows: usize, residual: Option<&Buffer>) -> (Buffer, Buffer);
    fn mlp_backward(&self, dy: &Buffer, kept: Buffer, weights: MlpWeights, rows: usize) -> MlpGradients;
    fn self_attention(&self, qkv: Buffer, key_mask: Option<&[bool]>, shape: &AttentionShape) -> SelfAttended;
    fn self_attention_backward(&self, kept: Buffer, out: &Buffer, lse: &Buffer, dout: &Buffer, key_mask: Option<&[bool]>, shape: &AttentionShape) -> Buffer;
            fn upload(&self, values: &[f32]) -> Buffer;
            fn full(&self, len: usize, value: f32) -> Buffer;
            fn scratch(&self, len: usize) -> Buffer;
            fn read(&self, buffer: &Buffer) -> Vec<f32>;
            fn pack_linear(&self, weight: Weight, out: usize, inner: usize, precision: Precision) -> Packed;
            fn pack_conv(&self, weight: Weight, shape: &ConvShape, precision: Precision) -> Packed;
            fn conv2d_backward_input(&self, dy: &Buffer, weight: &Buffer, shape: &ConvShape) -> Buffer;
            fn conv2d_backward_weight(&self, x: &Buffer, dy: &Buffer, shape: &ConvShape) -> Buffer;
            fn attention(&self, q: &Buffer, k: &Buffer, v: &Buffer, key_mask: Option<&[bool]>, shape: &AttentionShape) -> (Buffer, Buffer);
            fn attention_to_steps(&self, q: &Buffer, steps: &[StepBuffers<'_>], shape: &AttentionShape) -> Buffer;
            fn attention_backward(&self, inputs: [&Buffer; 3], out: &Buffer, lse: &Buffer, dout: &Buffer, key_mask: Option<&[bool]>, shape: &AttentionShape) -> [Buffer; 3];
            fn attention_weights(&self, q: &Buffer, k: &Buffer, key_mask: Option<&[bool]>, shape: &AttentionShape) -> Buffer;
            fn layer_norm(&self, x: &Buffer, gamma: &Buffer, beta: &Buffer, eps: f32) -> Normed;
    fn layer_norm_backward(&self, dy: &Buffer, x: &Buffer, gamma: &Buffer, normed: [&Buffer; 2], dx: Option<Buffer>) -> [Buffer; 3];
            fn batch_norm(&self, x: &Buffer, gamma: &Buffer, beta: &Buffer, residual: Option<&Buffer>, relu: bool, eps: f32) -> Normed;
            fn batch_norm_backward(&self, dy: &Buffer, x: &Buffer, y: &Buffer, gamma: &Buffer, normed: [&Buffer; 2], residual: bool, relu: bool, eps: f32) -> ([Buffer; 3], Option<Buffer>);
            fn l2_normalize(&self, x: &Buffer, cols: usize, eps: f32) -> (Buffer, Buffer);
            fn l2_normalize_backward(&self, dy: &Buffer, y: &Buffer, norm: &Buffer, cols: usize, eps: f32) -> Buffer;
            fn activate(&self, activation: Activation, x: &Buffer) -> Buffer;
            fn activate_backward(&self, activation: Activation, x: &Buffer, dy: &Buffer) -> Buffer;
            fn softmax(&self, x: &Buffer, cols: usize) -> Buffer;
            fn cross_entropy(&self, logits: &Buffer, targets: crate::Targets<'_>, cols: usize) -> (Buffer, Buffer);
            fn binary_cross_entropy(&self, logits: &Buffer, targets: crate::Targets<'_>, cols: usize) -> (Buffer, Buffer);
            fn gather_rows(&self, table: &Buffer, cols: usize, ids: &[u32]) -> Buffer;
            fn scatter_add_rows(&self, dout: &Buffer, cols: usize, ids: &[u32], rows: usize) -> Buffer;
            fn avg_pool2d(&self, x: &Buffer, size: [usize; 4], k: usize) -> Buffer;
            fn avg_pool2d_backward(&self, dy: &Buffer, size: [usize; 4], k: usize) -> Buffer;
            fn permute(&self, x: &Buffer, shape: &[usize], axes: &[usize]) -> Buffer;
            fn join(&self, parts: &[&Buffer]) -> Buffer;
            fn copy_blocks(&self, src: &Buffer, src_at: (usize, usize), dst: &mut Buffer, dst_at: (usize, usize), blocks: usize, len: usize);
            fn add(&self, a: &Buffer, b: &Buffer) -> Buffer;
            fn add_assign(&self, y: &mut Buffer, x: &Buffer);
            fn lerp(&self, y: &mut Buffer, x: &Buffer, weight: f32);
            fn mul(&self, a: &Buffer, b: &Buffer) -> Buffer;
            fn scale(&self, x: &Buffer, factor: f32) -> Buffer;
            fn dropout(&self, x: &Buffer, dropout: Dropout) -> Buffer;
            fn exp(&self, x: &Buffer) -> Buffer;
            fn sum(&self, x: &Buffer) -> Buffer;
            fn column_sums(&self, x: &Buffer, cols: usize) -> Buffer;
            fn mean_axis(&self, x: &Buffer, outer: usize, len: usize, inner: usize) -> Buffer;
            fn repeat_axis(&self, x: &Buffer, outer: usize, len: usize, inner: usize, factor: f32) -> Buffer;
            fn sum_squares(&self, x: &Buffer) -> f64;
            fn adamw(&self, param: &mut Buffer, grad: &Buffer, m: &mut Buffer, v: &mut Buffer, step: &AdamW);
        }
}
