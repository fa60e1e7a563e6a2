//! CPU kernels on slices; the only crate of tuwen that uses unsafe code.
//!
//! Everything is f32, row-major and contiguous unless a function says otherwise. Shapes are contracts between the
//! crates of the workspace, so a wrong length panics with a message. Results do not depend on scheduling: every
//! reduction is split at fixed places.
//!
//! # A tour
//!
//! 1. [`reference`](mod@reference) says what each operation is: plain loops for f32 and f64, forward only. The tests compare every
//!    kernel with it on every instruction set and awkward sizes, and every gradient with its differences.
//! 2. `isa` chooses the instruction set. `multiversion!` compiles a plain loop for each; LLVM does the rest. Read
//!    `norm/rms.rs` first: a norm is a page.
//! 3. `math` has what such loops need: an exponential without branches, and sums in 32 fixed lanes, which give the same bits on
//!    every instruction set.
//! 4. `threads` is the pool. Tasks are cut by sizes; work that is smaller than a hand-over stays on the caller.
//! 5. `gemm` is the heart, and where instruction sets differ: `pack` lays operands out, a `Kernel` for each set
//!    multiplies a tile in registers, `product` cuts the work for caches and threads and ends with the [`Epilogue`].
//!    `gemm::reduced` does the same in bf16 and int8.
//! 6. `conv`, `attention` and `mlp` are products too, with operands packed from where they lie. `winograd` are convolutions
//!    that multiply less, `maps` images that need no packing.
//! 7. [`limits`] measures what the machine could do at best, which is what a kernel is compared with.
//!
//! The first lines of each file say why its kernel is fast and what limits it: the multiply-add units, the exponential, or
//! memory. A new kernel is a definition in `reference`, a file here, and its line in `tests`.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_imports))] // products of units are for x86-64 so far
#![allow(clippy::too_many_arguments)] // shapes travel as plain numbers

#[macro_use]
mod isa;

mod activation;
mod aligned;
mod amx;
mod attention;
mod bf16;
mod bytes;
mod conv;
mod cross_entropy;
mod dropout;
mod elementwise;
mod embedding;
mod gemm;
mod layout;
pub mod limits;
mod maps;
mod math;
mod mlp;
mod norm;
mod optimizer;
mod pool;
mod precision;
mod reduce;
pub mod reference;
mod resample;
mod softmax;
mod threads;
mod winograd;

pub use activation::{Activation, activate, activate_backward};
pub use aligned::AlignedBuf;
pub use attention::{
    AttentionShape, SelfAttentionInputs, Step, attention, attention_backward, attention_to_bf16,
    attention_to_steps, attention_weights, bf16_len, round_to_bf16, self_attention, self_attention_backward,
    self_attention_kept_len, widen_from_bf16,
};
pub use bytes::as_floats;
pub use conv::{ConvShape, PackedConv, conv2d, conv2d_backward_input, conv2d_backward_weight};
pub use cross_entropy::{Targets, binary_cross_entropy, cross_entropy};
pub use dropout::{Dropout, dropout};
pub use elementwise::{add, add_broadcast, axpy, lerp, mul, scale};
pub use embedding::{gather_rows, scatter_add_rows};
pub use gemm::{Epilogue, MatRef, PackedB, gemm, has_fast, matmul, matmul_as};
pub use isa::{Isa, UnknownIsa, UnsupportedIsa, available, force_isa, isa};
pub use layout::permute;
pub use maps::{MapEpilogue, MapShape, conv_maps, conv_to_maps, maps_of, numbers_of, pool_maps};
pub use mlp::{Mlp, MlpBackward, mlp, mlp_backward, mlp_kept_len};
pub use norm::{
    batch_norm_backward, batch_norm_train, l2_normalize, l2_normalize_backward, layer_norm,
    layer_norm_backward, rms_norm, rms_norm_backward,
};
pub use optimizer::{AdamW, adamw};
pub use pool::{avg_pool2d, avg_pool2d_backward};
pub use precision::{Precision, UnknownPrecision};
pub use reduce::{column_sums, dot, mean_axis, sum, sum_squares};
pub use resample::{Taps, resample_across, resample_along};
pub use softmax::{log_sum_exp, softmax};
pub use threads::{parallel_chunks_mut, parallel_for, set_threads, threads};
