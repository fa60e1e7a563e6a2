//! Benchmarks: from a data set to its metrics.

mod linear_probe;
mod retrieval;
mod search;
mod zero_shot;

pub use linear_probe::{LinearProbe, Probed, Samples, Strength, split};
pub use retrieval::retrieval;
pub use search::Trial;
pub use zero_shot::zero_shot;
