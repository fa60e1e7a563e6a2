//! Layers and losses, and the [`Scope`] through which a network loads or initialises its parameters.

mod attention;
mod collective;
mod conv;
mod drop_path;
mod encoder;
mod init;
mod key_values;
mod linear;
mod lora;
mod loss;
mod mlp;
mod norm;
mod parameters;
mod pass;
mod scope;
mod transformer;

pub use attention::{MultiHeadAttention, SeenBy};
pub use collective::{Collective, Single, ThreadRank};
pub use conv::ConvBatchNorm;
pub use drop_path::DropPath;
pub use encoder::{Encoder, SequenceMask};
pub use init::Init;
pub use key_values::KeyValues;
pub use linear::{Embedding, Linear};
pub use lora::{LoraConfig, merge_lora};
pub use loss::{ContrastiveLoss, Meanings, PairLoss, Temperature};
pub use mlp::Mlp;
pub use norm::LayerNorm;
pub use parameters::{Entry, Kind, Parameters};
pub use pass::{DropoutRates, Pass};
pub use scope::{LoadReport, Mismatch, Scope};
pub use transformer::{EncoderLayer, EncoderLayerConfig, EncoderLayerInit};
