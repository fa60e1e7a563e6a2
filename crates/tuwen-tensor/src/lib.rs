//! Tensors for vision-language models: a shape, a buffer and a tape.
//!
//! This is no general library. It holds the few fused operations that the models need, each with its forward
//! and backward pass side by side in [`ops`], a define-by-run tape ([`Tensor::backward`]), parameters
//! ([`Param`]), a [`Device`] trait behind which a buffer need not be host memory, and [`checkpoint`] files.
//!
//! Operations panic when shapes do not fit, as indexing does: inside a model that is a bug. What a user can get
//! wrong (a checkpoint, a configuration, an image) is checked where it enters and is an error value there.

pub mod checkpoint;
mod cpu;
mod deferred;
mod device;
mod halves;
mod maps;
pub mod meter;
pub mod ops;
mod param;
mod pool;
pub mod profile;
mod tape;
mod tensor;

pub use cpu::Cpu;
pub use deferred::Deferred;
pub use device::{Buffer, Device, MlpGradients, MlpWeights, Normed, Packed, StepBuffers, Weight};
pub use ops::{AttentionMask, StepStates, Targets};
pub use param::Param;
pub use tape::{Gradients, checkpoint, checkpoint_of, no_grad};
pub use tensor::Tensor;
pub use tuwen_kernels::{Activation, AdamW, AttentionShape, ConvShape, Dropout, Precision};
