//! Measuring without computing: a device whose buffers have lengths and no memory.
//!
//! A network of [`Tensor::shape_only_parameter`](crate::Tensor::shape_only_parameter)s runs its own forward pass, tape
//! and optimizer on this device in a moment, and [`measure`] tells what that would take: operations, memory at its
//! height, and what is left for a backward pass, by the part of the network. So costs follow from the network's one
//! definition.
//!
//! An operation belongs to the module whose parameter takes part in it; without one, to the innermost module that
//! holds everything that made its inputs (attention of queries, keys and values: to the layer of their projections).
//!
//! Operations are those of matrix products, convolutions and attention, two for each multiplication and addition, as
//! PyTorch's `FlopCounterMode` counts them; a causal mask saves none. Norms, activations and softmax are not counted.

mod device;
mod ledger;

pub use device::Meter;
pub use ledger::{Measurement, Tally, measure};
