//! Training: one loop, objectives, an optimizer, exact checkpoints, evaluation on the way.

mod adapter;
mod average;
pub mod checkpoint;
mod classification;
mod contrastive;
mod data;
mod distillation;
mod error;
mod evaluation;
mod export;
mod frozen;
mod grounded;
mod layer_decay;
mod log;
pub mod memory;
mod objective;
mod optimizer;
pub mod recipe;
mod schedule;
pub mod setup;
mod sources;
mod trainer;

pub use average::Average;
pub use classification::{Classification, LabelledBatch};
pub use contrastive::{ClipBatch, Contrastive, Pairs};
pub use data::{ClassificationData, ContrastiveData, Preparation};
pub use error::TrainError;
pub use grounded::{
    AlbefSettings, Asked, CaptionedImages, Fused, FusedAnswers, FusedBatch, FusedData, FusedPairs, Grounded,
    GroundedBatch, GroundedData, GroundedPart, GroundedPreparation, Judge, Judged, JudgedBatch, JudgedData,
    Keys, Masked, Negatives, Place, PlacedBatch, Taught, Teacher,
};
pub use log::{EvalRecord, Log, StepRecord};
pub use objective::{BatchSource, Loss, Objective};
pub use optimizer::{Optimizer, Settings, decays};
pub use recipe::Recipe;
pub use schedule::{Decay, Schedule};
pub use sources::Sources;
pub use trainer::{Event, Observer, Outcome, Start, Trainer};
pub use tuwen_eval::Metrics;
