//! The verbs, a file each: their arguments and what they do.

pub mod classify;
pub mod completions;
pub mod embed;
pub mod params;
pub mod text_match;
pub mod train;
pub mod verify;
