//! Which pairs of a batch mean the same, so that they are no negatives of each other.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

/// Pairs of a batch by meaning: a number for each, equal where the meanings are (UniCL, arXiv 2204.03610).
#[derive(Clone, Debug)]
pub struct Meanings {
    of: Vec<usize>,
    /// How many pairs have a meaning.
    counts: Vec<usize>,
}

impl Meanings {
    /// Counts equal ones.
    pub fn new<T: Eq + Hash>(meanings: &[T]) -> Self {
        let mut numbers = HashMap::new();
        let mut counts = Vec::new();
        let number = |meaning| {
            let number = *numbers.entry(meaning).or_insert_with(|| {
                counts.push(0);
                counts.len() - 1
            });
            counts[number] += 1;
            number
        };
        let of = meanings.iter().map(number).collect();
        Self { of, counts }
    }

    /// Whether any two are equal.
    pub fn has_duplicates(&self) -> bool {
        self.counts.iter().any(|&count| count > 1)
    }

    /// Whether each pair of some rows has the same meaning as each pair of the batch: 1 or 0, `[rows, batch]`.
    pub(super) fn equal(&self, rows: Range<usize>) -> Vec<f32> {
        self.weights(rows, |_| 1.0)
    }

    /// The same, with each row sharing a weight of 1 among its equals.
    pub(super) fn shares(&self, rows: Range<usize>) -> Vec<f32> {
        self.weights(rows, |count| 1.0 / count as f32)
    }

    fn weights(&self, rows: Range<usize>, weight: impl Fn(usize) -> f32) -> Vec<f32> {
        let row = |&meaning: &usize| {
            let weight = weight(self.counts[meaning]);
            self.of.iter().map(move |&other| if other == meaning { weight } else { 0.0 })
        };
        self.of[rows].iter().flat_map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_their_weight() {
        assert!(!Meanings::new(&["a", "b"]).has_duplicates());
        let meanings = Meanings::new(&["a", "b", "a"]);
        assert!(meanings.has_duplicates());
        assert_eq!(meanings.shares(0..3), [0.5, 0.0, 0.5, 0.0, 1.0, 0.0, 0.5, 0.0, 0.5]);
        assert_eq!(meanings.equal(1..3), [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    }
}
