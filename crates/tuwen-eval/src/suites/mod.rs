//! Benchmarks: from a data set to its metrics.

mod caption;
mod linear_probe;
mod matching;
mod rerank;
mod retrieval;
mod search;
mod vqa;
mod zero_shot;

pub use caption::{Captioned, caption};
pub use linear_probe::{LinearProbe, Probed, Samples, Strength, split};
pub use matching::{Matched, Matching, Verdict};
pub use rerank::reranked_retrieval;
pub use retrieval::retrieval;
pub use search::Trial;
pub use vqa::{Answered, vqa};
pub use zero_shot::zero_shot;
