//! Images, tokenizers, data sets and loaders. This crate knows no tensor.

pub mod augment;
pub mod dataset;
pub mod files;
pub mod image;
pub mod loader;
pub mod rng;
pub mod tokenizer;
