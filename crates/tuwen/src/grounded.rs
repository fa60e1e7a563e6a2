//! BLIP and ALBEF, whose texts are grounded in images.

mod files;
mod model;
mod network;
mod pairs;

pub(crate) use files::{GENERATION_CONFIG, read};
pub use files::{GroundedConfig, GroundedFamily, GroundedFiles};
pub use model::GroundedModel;
pub use network::GroundedNetwork;
pub use pairs::{EncodedImages, EncodedTexts, PairScore, PairScorer, ScoredPairs};
