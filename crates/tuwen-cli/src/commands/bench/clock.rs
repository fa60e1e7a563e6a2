//! Repeating and timing.

use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Runs before the measured ones: weights are packed and buffers found then.
const WARM_UP: usize = 2;
/// Measured runs, at least, unless they take too long.
const RUNS: usize = 5;
/// How many times as long as asked for is too long.
const PATIENCE: f64 = 4.0;

/// Measures for so long.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// How long, in seconds.
    pub seconds: f64,
}

impl Clock {
    /// The median time of a run, in seconds.
    pub fn median(self, mut run: impl FnMut()) -> f64 {
        let timed = || {
            let begin = Instant::now();
            run();
            Ok(begin.elapsed())
        };
        self.median_of(WARM_UP, timed).unwrap_or(f64::NAN)
    }

    /// The median of times that runs tell themselves, in seconds.
    pub fn median_of(
        self,
        warm_up: usize,
        mut run: impl FnMut() -> Result<Duration, Failure>,
    ) -> Result<f64, Failure> {
        let since = |begin: Instant| begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        for number in 0..warm_up {
            if number == 0 || since(begin) < self.seconds.max(1.0) {
                run()?;
            }
        }
        let (mut times, begin) = (Vec::new(), Instant::now());
        let too_long = PATIENCE * self.seconds.max(1.0);
        while times.is_empty() || since(begin) < self.seconds || times.len() < RUNS && since(begin) < too_long
        {
            times.push(run()?.as_secs_f64());
        }
        Ok(median(times))
    }
}

/// The middle value, or the mean of the two in the middle; no number if there are none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count => (values[(count - 1) / 2] + values[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(vec![]).is_nan());
    }

    #[test]
    fn there_are_enough_runs_however_short_the_time() {
        let mut count = 0_u64;
        let clock = Clock { seconds: 0.0 };
        let times = || {
            count += 1;
            Ok(Duration::from_secs(count))
        };
        assert_eq!(clock.median_of(2, times).expect("no run fails"), 5.0, "of 3, 4, 5, 6 and 7");
        assert_eq!(count, 7);
    }
}
