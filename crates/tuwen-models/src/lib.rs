//! Networks, configurations, processors and weight layouts of the model families.
//!
//! A model is a folder with the same files in each: `mod.rs` (the network), `config.rs`, `processor.rs` and
//! `weights.rs`. Backbones that several families share lie beside the folders.

pub mod albef;
pub mod bert;
pub mod blip;
mod buckets;
pub mod clip;
mod cost;
pub mod generate;
mod resnet;
mod shapes;
mod sizes;
mod start;
mod tokens;
mod vit;
pub mod what_if;

pub use buckets::{buckets, by_length};
pub use clip::config::ConfigError;
pub use cost::{GROUNDED_TEXT, InputCost, ModelCost};
pub use resnet::{ModifiedResNet, ResNetConfig};
pub use start::{Beginning, Misfit};
pub use tokens::TokenIds;
pub use vit::{VisionTransformer, VitConfig};
