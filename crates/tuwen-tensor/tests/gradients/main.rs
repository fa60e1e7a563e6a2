//! Every operation against its plain definition in f64: its values, and its gradients by central differences.
//!
//! The kernels have tests of their own over many sizes and instruction sets. What is tested here is what lies above
//! them: shapes, broadcasting, fusion with and without a tape, which input gets which gradient, and their sums.

mod elements;
mod layout;
mod matrix;
mod norms;
mod support;
mod tape;
