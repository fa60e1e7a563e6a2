//! What is said of a stage.

use std::fmt;

use serde::Serialize;

use super::roofline::{Bound, Work};
use super::stage::Stage;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// Inputs of a run.
    pub batch: usize,
    /// Time of a run.
    pub seconds: f64,
    /// What a run does.
    pub work: Work,
    /// Memory at its height, where it is not that of this process.
    pub peak_memory: Option<u64>,
}

/// A line of results.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// What the model was asked for by.
    pub model: &'a str,
    /// What was measured.
    pub stage: Stage,
    /// Inputs of a run.
    pub batch: usize,
    /// The arithmetic; `u8` for pixels.
    pub precision: &'static str,
    /// Threads in use.
    pub threads: usize,
    /// Time of a run: the median.
    pub seconds: f64,
    /// Inputs a second.
    pub per_second: f64,
    /// Memory of the process at its height, in bytes.
    pub peak_memory: Option<u64>,
    /// Operations of a run.
    pub flops: u64,
    /// Bytes that a run moves at least.
    pub bytes: u64,
    /// The share of the limit that was reached.
    pub roofline: f64,
    /// What the limit is.
    pub bound: Bound,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch, precision, seconds, per_second, roofline, .. } = self;
        let stage = self.stage.to_string();
        write!(f, "{stage:<26}  {precision:<4}  batch {batch:<3}  {seconds:>9.5} s  {per_second:>9.2}/s")?;
        if let Some(bytes) = self.peak_memory {
            write!(f, "  {:>6.0} MB", bytes as f64 / 1e6)?;
        }
        let bound = if self.bound == Bound::Memory { "memory" } else { "arithmetic" };
        write!(f, "  {:>5.1} % of the limit ({bound})", 100.0 * roofline)
    }
}
