//! CIDEr and CIDEr-D (Vedantam, Zitnick and Parikh 2015).

use std::collections::BTreeMap;

use super::ngrams::{LONGEST, ngrams};
use super::{CaptionItem, DocumentFrequencies};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cider {
    /// The mean cosine of vectors of n-grams, without the stemming of the paper, which no implementation does.
    Plain,
    /// Repetition is clipped, and captions that differ in length from a reference count less. This is what the COCO tools
    /// call CIDEr.
    D,
}

/// The width of the penalty on lengths, in tokens.
const SIGMA: f64 = 6.0;

/// The value of a caption: the mean over n = 1 to 4 and over references of the similarity of their vectors, times ten. Of a
/// single document every weight is 0.
pub fn cider(item: &CaptionItem, frequencies: &DocumentFrequencies, kind: Cider) -> f64 {
    let candidate = Vector::of(&item.candidate, frequencies);
    let similarity =
        |reference: &Vec<String>| candidate.similarity(&Vector::of(reference, frequencies), kind);
    let sum: f64 = item.references.iter().map(similarity).sum();
    10.0 * sum / item.references.len().max(1) as f64
}

/// The n-grams of a text, weighted by how rare they are.
struct Vector<'a> {
    weights: BTreeMap<&'a [String], f64>,
    norms: [f64; LONGEST],
    /// The tools measure length in bigrams.
    bigrams: usize,
}

impl<'a> Vector<'a> {
    fn of(tokens: &'a [String], frequencies: &DocumentFrequencies) -> Self {
        let weigh = |(ngram, count): (&'a [String], usize)| (ngram, count as f64 * frequencies.rarity(ngram));
        let weights: BTreeMap<_, _> = ngrams(tokens).into_iter().map(weigh).collect();
        let mut norms = [0.0; LONGEST];
        weights.iter().for_each(|(ngram, weight)| norms[ngram.len() - 1] += weight * weight);
        Self { weights, norms: norms.map(f64::sqrt), bigrams: tokens.len().saturating_sub(1) }
    }

    /// The mean over n of the similarity to a reference.
    fn similarity(&self, reference: &Vector<'_>, kind: Cider) -> f64 {
        let mut products = [0.0; LONGEST];
        for (ngram, &weight) in &self.weights {
            let other = reference.weights.get(ngram).copied().unwrap_or(0.0);
            let weight = if kind == Cider::D { weight.min(other) } else { weight };
            products[ngram.len() - 1] += weight * other;
        }
        let cosine = |n: usize| match self.norms[n] * reference.norms[n] {
            0.0 => 0.0,
            norms => products[n] / norms,
        };
        let mean = (0..LONGEST).map(cosine).sum::<f64>() / LONGEST as f64;
        let apart = self.bigrams.abs_diff(reference.bigrams) as f64;
        if kind == Cider::D { mean * (-apart * apart / (2.0 * SIGMA * SIGMA)).exp() } else { mean }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_pays_in_the_plain_form_only() {
        let items = [
            CaptionItem::from_tokens("dog dog dog dog", &["a dog runs"]),
            CaptionItem::from_tokens("x", &["a cat sits"]),
            CaptionItem::from_tokens("x", &["two cats sit"]),
        ];
        let frequencies = DocumentFrequencies::of(items.iter().map(|item| &item.references[..]));
        let (plain, d) =
            (cider(&items[0], &frequencies, Cider::Plain), cider(&items[0], &frequencies, Cider::D));
        // "dog" and "runs" occur in one of three documents, "a" in two.
        let (rare, common) = (3.0_f64.ln(), 1.5_f64.ln());
        let norm = (2.0 * rare * rare + common * common).sqrt();
        assert!((plain - 10.0 / 4.0 * rare / norm).abs() < 1e-12, "{plain}");
        assert!((d - 10.0 / 4.0 * rare / norm / 4.0 * (-1.0_f64 / 72.0).exp()).abs() < 1e-12, "{d}");
    }

    #[test]
    fn an_exact_caption_has_ten() {
        let items = [
            CaptionItem::from_tokens("a b c d e", &["a b c d e"]),
            CaptionItem::from_tokens("x", &["p q r s t"]),
        ];
        let frequencies = DocumentFrequencies::of(items.iter().map(|item| &item.references[..]));
        for kind in [Cider::Plain, Cider::D] {
            assert!((cider(&items[0], &frequencies, kind) - 10.0).abs() < 1e-12);
        }
    }
}
