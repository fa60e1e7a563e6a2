//! Vision-language models: load one, and embed, classify or match with it.
//!
//! ```no_run
//! # fn main() -> Result<(), tuwen::Error> {
//! use tuwen::{Options, Picture};
//!
//! let model = tuwen::load("openai/clip-vit-base-patch32", &Options::default())?;
//! let image = Picture::open("cat.jpg".as_ref())?;
//! for class in model.classify(&image, &["a cat", "a dog"])? {
//!     println!("{}: {:.1} %", class.label, 100.0 * class.score);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A model is a directory, a weight file, a repository of the Hugging Face hub in a local cache, or the one inside this
//! library ([`BUILTIN`]). What kind it is, is read from its content.

mod ability;
mod adapter;
mod answerer;
mod builtin;
mod captioner;
mod class_cache;
mod classifier;
pub mod convert;
mod embedder;
mod embeddings;
mod error;
mod explain;
pub mod export;
mod files;
mod fingerprint;
mod grounded;
pub mod hub;
mod matcher;
mod model;
pub mod params;
mod pixels;
mod place;
mod source;
pub mod templates;
mod towers;
mod writing;

use std::path::PathBuf;

pub use ability::Ability;
pub use adapter::{Adapter, write as write_adapter};
pub use answerer::{Answerer, Candidates, RankedAnswer};
pub use captioner::Captioner;
pub use classifier::LinearClassifier;
pub use embedder::{Embedder, Texts};
pub use embeddings::Embeddings;
pub use error::Error;
pub use explain::{Explanation, WordMap};
pub use files::{ClipFamily, Family, Files, ModelFiles, Opened};
pub use grounded::{
    EncodedImages, EncodedTexts, GroundedConfig, GroundedFamily, GroundedFiles, GroundedModel,
    GroundedNetwork, PairScore, PairScorer, ScoredPairs,
};
pub use matcher::{Class, Matcher};
pub use model::Model;
pub use pixels::Pixels;
pub use source::{BUILTIN, is_built_in};
pub use towers::ClipModel;
pub use tuwen_data::image::Picture;
pub use tuwen_data::tokenizer::Truncated;
pub use tuwen_kernels::{Precision, UnknownPrecision};
pub use tuwen_models::clip::ImageFeatures;
pub use tuwen_models::generate;
pub use writing::{Eye, SeenImages, WritingOptions, Written};

/// How a model is found and set up.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Caches of the Hugging Face hub, best first; hub ids are looked up there. Nothing is fetched: [`hub::pull`] does.
    pub cache_dirs: Vec<PathBuf>,
    /// Threads to compute with, for the whole process; one for each core unless set.
    pub threads: Option<usize>,
    /// A low-rank adapter in peft's layout, to be merged into the model: a directory or a hub id.
    pub adapter: Option<String>,
    /// Side of the square input in pixels, where it shall not be the model's own: positions are interpolated.
    pub image_size: Option<usize>,
    /// What the network multiplies in; single precision unless set.
    pub precision: Precision,
}

/// The fastest precision of this machine whose vectors point where those of single precision do: their cosine is at least
/// 0.9999.
pub fn auto_precision() -> Precision {
    if tuwen_kernels::has_fast(Precision::Bf16) { Precision::Bf16 } else { Precision::F32 }
}

/// Finds, opens and loads a model.
///
/// # Errors
/// There is no such model, its files cannot be read or do not fit together.
pub fn load(model: &str, options: &Options) -> Result<Model, Error> {
    if let Some(threads) = options.threads {
        tuwen_kernels::set_threads(threads);
    }
    Model::of(Opened::open(model, options)?)
}
