//! Metrics: functions of scores and right answers.
//!
//! Functions of one quantity give a share between 0 and 1; tables of [`Metrics`] are in percent, as papers print them.

use std::collections::BTreeMap;

pub mod caption;
mod classification;
mod ranking;
mod retrieval;
pub mod vqa;

pub use classification::{classification, log_softmax, mean_per_class, top_k};
pub use ranking::{average_precision, eleven_point_ap, roc_auc};
pub use retrieval::{ensemble, retrieval, retrieval_by_scores, zero_shot};

/// Metrics by name, in percent unless they [count](is_count); the order is that of the names.
pub type Metrics = BTreeMap<String, f64>;

/// Metrics that say over how many the others were taken.
const COUNTS: [&str; 3] = ["pairs", "questions", "sentences"];

/// Whether a metric is a number of things.
pub fn is_count(metric: &str) -> bool {
    COUNTS.contains(&metric)
}

/// How many scores are above the best correct one, or equal to it and before it: the rank of the best correct
/// candidate, counted from 0. With no correct candidate the rank is the number of candidates.
fn rank(scores: &[f32], correct: impl Fn(usize) -> bool) -> usize {
    let best = (0..scores.len()).filter(|&i| correct(i)).fold(None, |best: Option<usize>, i| match best {
        Some(b) if scores[b] >= scores[i] => Some(b),
        _ => Some(i),
    });
    let Some(best) = best else { return scores.len() };
    // Not a number is counted as better: a broken model must not look perfect.
    let beats = |(i, &score): (usize, &f32)| {
        !correct(i)
            && (score.is_nan()
                || scores[best].is_nan()
                || score > scores[best]
                || (score == scores[best] && i < best))
    };
    scores.iter().enumerate().filter(|&candidate| beats(candidate)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_and_not_a_number_do_not_flatter() {
        assert_eq!(rank(&[0.5, 0.5, 0.5], |i| i == 2), 2);
        assert_eq!(rank(&[0.5, 0.5, 0.5], |i| i == 0), 0);
        assert_eq!(rank(&[f32::NAN, 0.5], |i| i == 1), 1);
        assert_eq!(rank(&[0.1, f32::NAN], |i| i == 1), 1);
        assert_eq!(rank(&[0.1, 0.2], |_| false), 2);
    }
}
