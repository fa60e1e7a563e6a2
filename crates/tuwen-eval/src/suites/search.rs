//! The paper's search for the strength of the penalty (CLIP, appendix A.3): from coarse to fine on a logarithmic grid.

/// Decades from the least to the greatest penalty λ = 1/C.
const DECADES: usize = 12;
/// Steps of the finest grid in a decade.
const STEPS: usize = 8;
/// The first grid: every second decade, seven in all.
const FIRST_STEP: usize = 2 * STEPS;

/// A strength that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Its place on the grid.
    place: usize,
    /// The weight of the data against the penalty.
    pub c: f64,
    /// Accuracy on the validation samples, from 0 to 1.
    pub accuracy: f64,
    /// Iterations that the fit took.
    pub iterations: u64,
    /// Whether the fit reached its tolerance.
    pub converged: bool,
}

/// What trying a strength gives: accuracy, iterations, and whether the fit converged.
pub(super) type Outcome = (f64, u64, bool);

/// λ from 1e-6 to 1e6 in 96 steps: seven values, then twice as fine around the best until there are eight steps to a
/// decade. All that was tried, in that order; of the best ones the greatest penalty is [`best`].
pub(super) fn search(mut attempt: impl FnMut(f64) -> Outcome) -> Vec<Trial> {
    let last = DECADES * STEPS;
    let mut trials: Vec<Trial> = Vec::new();
    let mut places: Vec<usize> = (0..=last).step_by(FIRST_STEP).collect();
    let mut step = FIRST_STEP;
    loop {
        for place in places {
            if trials.iter().any(|trial| trial.place == place) {
                continue;
            }
            let c = 10_f64.powf((DECADES / 2) as f64 - place as f64 / STEPS as f64);
            let (accuracy, iterations, converged) = attempt(c);
            trials.push(Trial { place, c, accuracy, iterations, converged });
        }
        step /= 2;
        let Some(best) = best(&trials).filter(|_| step > 0) else { return trials };
        places = [best.place.checked_sub(step), Some(best.place + step)].into_iter().flatten().collect();
        places.retain(|&place| place <= last);
    }
}

/// The trial of the best accuracy, the greatest penalty among equals.
pub(super) fn best(trials: &[Trial]) -> Option<&Trial> {
    trials.iter().max_by(|a, b| a.accuracy.total_cmp(&b.accuracy).then(a.place.cmp(&b.place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_found_to_an_eighth_of_a_decade() {
        for peak in [-6.0, -3.3, 0.5, 5.9] {
            let trials = search(|c| (-(c.log10() - peak).abs(), 1, true));
            let found = best(&trials).expect("trials").c.log10();
            assert!((found - peak).abs() <= 1.0 / 16.0 + 1e-9, "{peak} {found}");
            assert!(trials.len() <= 15, "{}", trials.len());
        }
    }

    #[test]
    fn of_equals_the_greatest_penalty_is_taken() {
        let trials = search(|c| (if c > 0.05 { 0.9 } else { 0.1 }, 1, true));
        let best = best(&trials).expect("trials");
        assert!((best.c.log10() + 1.25).abs() < 1e-9, "{}", best.c);
    }
}
