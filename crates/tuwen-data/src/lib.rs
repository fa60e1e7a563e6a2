//! Images, tokenizers, data sets and loaders. This crate knows no tensor.

pub mod image;
