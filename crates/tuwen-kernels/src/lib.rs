//! CPU kernels on slices; the only crate of tuwen that uses unsafe code.
//!
//! Everything is f32, row-major and contiguous unless a function says otherwise. Shapes are contracts between the
//! crates of the workspace, so a wrong length panics with a message. Results do not depend on scheduling: every
//! reduction is split at fixed places.

#![allow(clippy::too_many_arguments)] // shapes travel as plain numbers

#[macro_use]
mod isa;

mod activation;
mod aligned;
mod attention;
mod conv;
mod cross_entropy;
mod elementwise;
mod embedding;
mod gemm;
mod layout;
mod math;
mod norm;
mod optimizer;
mod pool;
mod reduce;
pub mod reference;
mod resample;
mod softmax;
mod threads;

pub use activation::{Activation, activate, activate_backward};
pub use aligned::AlignedBuf;
pub use attention::{AttentionShape, attention, attention_backward, attention_weights};
pub use conv::{ConvShape, PackedConv, conv2d, conv2d_backward_input, conv2d_backward_weight};
pub use cross_entropy::{Targets, binary_cross_entropy, cross_entropy};
pub use elementwise::{add, add_broadcast, axpy, lerp, mul, scale};
pub use embedding::{gather_rows, scatter_add_rows};
pub use gemm::{Epilogue, MatRef, PackedB, gemm, matmul};
pub use isa::{Isa, UnsupportedIsa, available, force_isa, isa};
pub use layout::permute;
pub use norm::{
    batch_norm_backward, batch_norm_train, l2_normalize, l2_normalize_backward, layer_norm,
    layer_norm_backward,
};
pub use optimizer::{AdamW, adamw};
pub use pool::{avg_pool2d, avg_pool2d_backward};
pub use reduce::{column_sums, dot, mean_axis, sum, sum_squares};
pub use resample::{Taps, resample_across, resample_along};
pub use softmax::softmax;
pub use threads::{parallel_chunks_mut, parallel_for, set_threads, threads};
