//! Counts of n-grams.

use std::collections::BTreeMap;

/// The longest n-grams that are counted.
pub const LONGEST: usize = 4;

/// How often each n-gram of 1 to [`LONGEST`] tokens occurs. The order is fixed, so that sums over it are.
pub fn ngrams(tokens: &[String]) -> BTreeMap<&[String], usize> {
    let mut counts = BTreeMap::new();
    for ngram in (1..=LONGEST).flat_map(|n| tokens.windows(n)) {
        *counts.entry(ngram).or_insert(0) += 1;
    }
    counts
}
