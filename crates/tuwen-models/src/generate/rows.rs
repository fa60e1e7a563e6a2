//! One row of logits: what is probable in it.

use tuwen_kernels::parallel_chunks_mut;

use super::warpers::softmax;
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
        let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // The probability of the greatest is one part of the sum of all.
        let probability = softmax(logits).into_iter().fold(0.0, f32::max);
        let log_sum = greatest - probability.ln();
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

/// Results of `work` on each of `count` rows, by all threads.
pub fn each_row<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, GenerationError> + Sync,
) -> Result<Vec<T>, GenerationError> {
    let mut slots: Vec<Option<Result<T, GenerationError>>> = (0..count).map(|_| None).collect();
    parallel_chunks_mut(&mut slots, 1, |i, slot| slot[0] = Some(work(i)));
    slots.into_iter().flatten().collect()
}

/// The `count` greatest scores with their numbers, the greatest first; of equal ones the first.
pub fn greatest(scores: impl Iterator<Item = f32>, count: usize) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    let mut least = f32::NEG_INFINITY;
    for (score, number) in scores.zip(0..) {
        if best.len() == count && score <= least {
            continue;
        }
        let at = best.partition_point(|&(_, other)| other >= score);
        best.insert(at, (number, score));
        best.truncate(count);
        least = best.last().map_or(least, |&(_, score)| score);
    }
    best
}
