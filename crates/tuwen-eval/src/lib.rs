//! Measuring models: metrics, and the benchmarks that they are published with.
//!
//! [`metrics`] are functions of scores and answers. [`suites`] run a benchmark from a data set to its metrics: zero-shot
//! classification, retrieval and linear probes. A suite knows a model as an [`Encoder`] only, so that training measures
//! a network in the making by the same code. Captions and answers are measured as texts by id ([`annotations`]), which a file
//! of predictions holds and a model gives alike.

pub mod annotations;
mod classes;
mod encode;
mod error;
pub mod logistic;
pub mod metrics;
pub mod suites;
mod written;

pub use classes::Classes;
pub use encode::{Encoded, Encoder, encode};
pub use error::EvalError;
pub use metrics::Metrics;
pub use written::{Answering, Asking, WrittenTexts, write_answers, write_captions};
