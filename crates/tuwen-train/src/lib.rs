//! Training: one loop, objectives, an optimizer, exact checkpoints, evaluation on the way.

pub mod checkpoint;
mod classification;
mod contrastive;
mod data;
mod directory;
mod error;
mod evaluation;
mod export;
mod layer_decay;
mod log;
mod objective;
mod optimizer;
pub mod recipe;
mod schedule;
pub mod setup;
mod trainer;

pub use classification::{Classification, LabelledBatch};
pub use contrastive::{ClipBatch, Contrastive};
pub use data::{ClassificationData, ContrastiveData};
pub use error::TrainError;
pub use log::{EvalRecord, Log, StepRecord};
pub use objective::{BatchSource, Loss, Objective};
pub use optimizer::{Optimizer, Settings, decays};
pub use recipe::Recipe;
pub use schedule::{Decay, Schedule};
pub use trainer::{Event, Observer, Outcome, Start, Trainer};
pub use tuwen_eval::Metrics;
