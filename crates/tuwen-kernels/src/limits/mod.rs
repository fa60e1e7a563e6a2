//! What this machine can do at most, measured: arithmetic of each precision, and reading memory.
//!
//! These are the two lines of a roofline (Williams, Waterman and Patterson 2009): work of so many operations on so many
//! bytes takes at least the longer of `flops / peak` and `bytes / bandwidth`. Each figure is the best of several short
//! runs on all [`threads`], because a limit is what was ever reached and not what is usual.

mod memory;
#[cfg(not(target_arch = "x86_64"))]
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_tiles;

use std::thread::available_parallelism;
use std::time::{Duration, Instant};

pub use memory::read_bandwidth;
#[cfg(not(target_arch = "x86_64"))]
use portable::unit;
#[cfg(target_arch = "x86_64")]
use x86::unit;

use crate::{Precision, parallel_chunks_mut, threads};

/// The most operations that all threads together do in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Operations a second, two for each multiplication and addition.
    pub flops: f64,
    /// What does them: an instruction set extension.
    pub unit: &'static str,
}

/// A loop of independent multiply-adds on registers.
#[derive(Clone, Copy)]
struct Unit {
    name: &'static str,
    /// Operations of one round.
    flops: u64,
    /// Runs so many rounds.
    run: fn(u64),
}

/// Time of one run, short enough that some run is not interrupted.
const RUN: Duration = Duration::from_millis(1);
/// Time of all runs.
const ALL_RUNS: Duration = Duration::from_millis(50);

/// Measures the peak of the best unit for products of this precision, whether or not [`isa`](crate::isa) uses it. Where
/// the machine has none of its own for a precision, that of single precision counts. Takes about 0.05 s.
///
/// Every thread finds its own best while the others run; more threads than cores do no more than the cores.
pub fn peak(precision: Precision) -> Peak {
    let unit = unit(precision);
    let mut rates = vec![0.0; threads()];
    parallel_chunks_mut(&mut rates, 1, |_, rate| rate[0] = best_rate(&unit));
    let cores = available_parallelism().map_or(threads(), usize::from);
    let share = (cores as f64 / threads() as f64).min(1.0);
    Peak { flops: rates.iter().sum::<f64>() * share, unit: unit.name }
}

/// Operations a second of the calling thread.
fn best_rate(unit: &Unit) -> f64 {
    let mut rounds = 1 << 10;
    let (mut best, begin) = (0.0_f64, Instant::now());
    while begin.elapsed() < ALL_RUNS {
        let run = Instant::now();
        (unit.run)(rounds);
        let time = run.elapsed();
        best = best.max((rounds * unit.flops) as f64 / time.as_secs_f64());
        if time < RUN {
            rounds *= 2;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_precision_has_a_peak_and_memory_a_bandwidth() {
        for precision in Precision::ALL {
            let peak = peak(precision);
            assert!(peak.flops > 1e8 && peak.flops.is_finite(), "{precision}: {peak:?}");
        }
        for bytes in [0, 1, 4096, 1 << 20] {
            let bandwidth = read_bandwidth(bytes);
            assert!(bandwidth > 1e7 && bandwidth.is_finite(), "{bytes}: {bandwidth}");
        }
    }
}
