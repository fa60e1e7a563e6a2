//! Images, tokenizers, data sets and loaders. This crate knows no tensor.

pub mod augment;
pub mod check;
pub mod dataset;
pub mod files;
mod guard;
pub mod image;
pub mod loader;
pub mod parallel;
pub mod rng;
pub mod tokenizer;

pub use guard::is_guarded;
