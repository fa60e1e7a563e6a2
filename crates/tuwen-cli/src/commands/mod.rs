//! The verbs, a file each: their arguments and what they do.

pub mod ask;
pub mod bench;
pub mod capfilt;
pub mod caption;
pub mod classify;
pub mod completions;
pub mod convert;
pub mod embed;
pub mod eval;
pub mod man;
pub mod r#match;
pub mod params;
pub mod pull;
pub mod train;
pub mod verify;
