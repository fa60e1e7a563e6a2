//! One row of logits: what is probable in it.

use tuwen_kernels::{log_sum_exp, parallel_chunks_mut};
use tuwen_tensor::Tensor;

use super::{GenerationError, Processor};

/// A row of logits, and what is made of it.
pub struct Row<'a> {
    logits: &'a [f32],
    log_sum: f32,
}

impl<'a> Row<'a> {
    /// # Errors
    /// Logits that are not numbers.
    pub fn new(logits: &'a [f32]) -> Result<Self, GenerationError> {
        let log_sum = log_sum_exp(logits);
        if log_sum.is_finite() { Ok(Self { logits, log_sum }) } else { Err(GenerationError::NotFinite) }
    }

    /// Logarithm of the probability of a token.
    pub fn log_probability(&self, token: u32) -> f32 {
        self.logits[token as usize] - self.log_sum
    }

    /// Those of all tokens, through a chain of processors, after `ids`.
    pub fn log_probabilities(&self, ids: &[u32], chain: &[Processor]) -> Vec<f32> {
        let mut scores: Vec<f32> = self.logits.iter().map(|logit| logit - self.log_sum).collect();
        chain.iter().for_each(|processor| processor.apply(ids, &mut scores));
        scores
    }

    /// The logits through a chain of processors, after `ids`.
    pub fn logits(&self, ids: &[u32], chain: &[Processor]) -> Vec<f32> {
        let mut scores = self.logits.to_vec();
        chain.iter().for_each(|processor| processor.apply(ids, &mut scores));
        scores
    }
}

/// Results of `work` on each of `count` rows, with the values of `logits`, by all threads.
pub fn each_row<T: Send>(
    logits: &Tensor,
    count: usize,
    work: impl Fn(usize, &[f32]) -> Result<T, GenerationError> + Sync,
) -> Result<Vec<T>, GenerationError> {
    let mut slots: Vec<Option<Result<T, GenerationError>>> = (0..count).map(|_| None).collect();
    logits.with_values(|values| {
        parallel_chunks_mut(&mut slots, 1, |i, slot| slot[0] = Some(work(i, values)));
    });
    slots.into_iter().flatten().collect()
}

/// Scores that are compared with the least of the greatest at once: nearly always all of them are behind it.
const TOGETHER: usize = 64;

/// The `count` greatest scores with their numbers, the greatest first; of equal ones the first.
pub fn greatest(scores: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    let mut least = f32::NEG_INFINITY;
    for (first, together) in (0..).step_by(TOGETHER).zip(scores.chunks(TOGETHER)) {
        if best.len() == count && !together.iter().fold(false, |ahead, &score| ahead | (score > least)) {
            continue;
        }
        for (number, &score) in (first..).zip(together) {
            if best.len() == count && score <= least {
                continue;
            }
            let at = best.partition_point(|&(_, other)| other >= score);
            best.insert(at, (number, score));
            best.truncate(count);
            least = best.last().map_or(least, |&(_, score)| score);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_are_those_of_a_stable_sort() {
        let scores: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 251) as f32).collect();
        let mut sorted: Vec<(u32, f32)> = (0..).zip(scores.iter().copied()).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        for count in [1, 6, 100, 1000] {
            assert_eq!(greatest(&scores, count), sorted[..count]);
        }
        assert_eq!(greatest(&[f32::NEG_INFINITY; 3], 2).len(), 2);
    }

    #[test]
    fn the_log_of_a_probability_is_that_of_the_softmax() {
        let logits: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin() * 5.0).collect();
        let probabilities = crate::generate::warpers::softmax(&logits);
        let row = Row::new(&logits).expect("finite");
        for (token, probability) in (0..).zip(probabilities) {
            assert!((row.log_probability(token) - probability.ln()).abs() < 1e-5, "token {token}");
        }
        for bad in [f32::NAN, f32::INFINITY] {
            let logits = [0.0, bad, 1.0];
            assert!(matches!(Row::new(&logits), Err(GenerationError::NotFinite)), "{bad}");
        }
    }
}
