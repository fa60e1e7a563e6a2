//! Losses: functions of features, with what they need to know of a batch.

mod contrastive;
mod meanings;

pub use contrastive::{ContrastiveLoss, PairLoss, Temperature};
pub use meanings::Meanings;
