//! The operations: one file each, forward and backward side by side.
//!
//! Each function computes its result on the device of its first input and, where an input is on the tape, records
//! how gradients flow back. Closures capture detached tensors only, so a node never holds itself.

mod activation;
mod arithmetic;
mod attention;
mod avg_pool2d;
mod batch_norm;
mod concat;
mod conv2d;
mod custom;
mod dropout;
mod embedding;
mod halves;
mod l2_normalize;
mod layer_norm;
mod linear;
mod maps;
mod mlp;
mod permute;
mod self_attention;
mod softmax;

pub use activation::activate;
pub use arithmetic::{add, exp, mean_axis, mul, repeat_axis, scale, sum};
pub use attention::{AttentionMask, StepStates, attention, attention_to_steps, attention_weights};
pub use avg_pool2d::avg_pool2d;
pub use batch_norm::{BatchStatistics, batch_norm};
pub use concat::{concat, narrow};
pub use conv2d::conv2d;
pub use custom::custom;
pub use dropout::dropout;
pub use embedding::gather_rows;
pub use halves::{from_halves, to_halves};
pub use l2_normalize::l2_normalize;
pub use layer_norm::layer_norm;
pub use linear::{Layer, linear, matmul_nt};
pub use maps::{conv2d_to_maps, from_maps};
pub use mlp::mlp;
pub use permute::{permute, reshape};
pub use self_attention::self_attention;
pub use softmax::{Targets, binary_cross_entropy, cross_entropy, softmax, weighted_cross_entropy};
