//! BLEU (Papineni et al. 2002) as the COCO tools compute it.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::CaptionItem;
use super::ngrams::{LONGEST, ngrams};

/// The counts that BLEU is made of; those of a corpus are the sums of those of its captions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BleuStatistics {
    /// n-grams that occur in a reference, each at most as often as in the one that has most of it.
    correct: [usize; LONGEST],
    /// n-grams of the caption.
    all: [usize; LONGEST],
    /// Tokens of the caption.
    length: usize,
    /// Tokens of the reference whose length is closest, of two the shorter.
    reference_length: usize,
}

impl BleuStatistics {
    /// Counts one caption.
    pub fn of(item: &CaptionItem) -> Self {
        let mut most: BTreeMap<&[String], usize> = BTreeMap::new();
        for (ngram, count) in item.references.iter().flat_map(|reference| ngrams(reference)) {
            let seen = most.entry(ngram).or_insert(0);
            *seen = count.max(*seen);
        }
        let length = item.candidate.len();
        let lengths = item.references.iter().map(Vec::len);
        let reference_length =
            lengths.min_by_key(|&reference| (reference.abs_diff(length), reference)).unwrap_or(0);
        let mut counts = Self { length, reference_length, ..Self::default() };
        for (ngram, count) in ngrams(&item.candidate) {
            counts.all[ngram.len() - 1] += count;
            counts.correct[ngram.len() - 1] += count.min(most.get(ngram).copied().unwrap_or(0));
        }
        counts
    }
}

impl AddAssign for BleuStatistics {
    fn add_assign(&mut self, other: Self) {
        for n in 0..LONGEST {
            self.correct[n] += other.correct[n];
            self.all[n] += other.all[n];
        }
        self.length += other.length;
        self.reference_length += other.reference_length;
    }
}

/// BLEU-1 to BLEU-4: the geometric mean of precisions, less where captions are shorter than references. The tools' small
/// numbers keep the value of a single caption without a match off zero.
pub fn bleu(counts: &BleuStatistics) -> [f64; LONGEST] {
    const TINY: f64 = 1e-15;
    const SMALL: f64 = 1e-9;
    let ratio = (counts.length as f64 + TINY) / (counts.reference_length as f64 + SMALL);
    let brevity = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
    let mut product = 1.0;
    std::array::from_fn(|n| {
        product *= (counts.correct[n] as f64 + TINY) / (counts.all[n] as f64 + SMALL);
        product.powf(1.0 / (n as f64 + 1.0)) * brevity
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ngram_counts_as_often_as_a_reference_has_it() {
        // The example of the paper: modified unigram precision 2/7, bigram precision 0.
        let item = CaptionItem::from_tokens(
            "the the the the the the the",
            &["the cat is on the mat", "there is a cat on the mat"],
        );
        let scores = bleu(&BleuStatistics::of(&item));
        assert!((scores[0] - 2.0 / 7.0).abs() < 1e-9, "{scores:?}");
        assert!(scores[1] < 1e-7, "{scores:?}");
    }

    #[test]
    fn short_captions_are_punished_by_the_closest_reference() {
        // Lengths 2 and 4 are equally close to 3: the shorter one counts, and nothing is taken away.
        let item = CaptionItem::from_tokens("a b c", &["a b", "a b c d"]);
        assert!((bleu(&BleuStatistics::of(&item))[0] - 1.0).abs() < 1e-8);
        let item = CaptionItem::from_tokens("a b c", &["a b c d"]);
        assert!((bleu(&BleuStatistics::of(&item))[0] - (1.0_f64 - 4.0 / 3.0).exp()).abs() < 1e-8);
    }
}
