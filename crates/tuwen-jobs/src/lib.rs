//! Bulk work over data sets, in shards: what is finished stays finished, whenever the process is killed.
//!
//! A job knows models by what they can do ([`Captioner`], [`Filter`]), never by what they are.

pub mod capfilt;
mod directory;
mod error;
mod files;
mod models;
pub mod noise;
mod sources;

pub use error::JobError;
pub use models::{Caption, Captioner, Filter, Heads, ImageEncoder, ModelError, Models, Scores};
