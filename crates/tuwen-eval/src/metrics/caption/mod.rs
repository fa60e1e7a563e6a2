//! Metrics of captions against references that people wrote: those of the COCO caption tools.
//!
//! The tools need Java for tokens and METEOR, and data for METEOR's synonyms and paraphrases and for SPICE's parser. Tokens
//! are here without it; SPICE is not, and of METEOR the two stages that need no data (see [`Meteor`]).

mod bleu;
mod cider;
mod frequencies;
mod meteor;
mod ngrams;
mod ptb;
mod rouge;

pub use bleu::{BleuStatistics, bleu};
pub use cider::{Cider, cider};
pub use frequencies::{DocumentFrequencies, FrequencyError};
pub use meteor::{Meteor, MeteorStatistics};
pub use ptb::{tokenize, tokenize_corpus};
pub use rouge::rouge_l;

use super::Metrics;

/// A caption and its references, as tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaptionItem {
    /// What was predicted.
    pub candidate: Vec<String>,
    /// What people wrote; at least one.
    pub references: Vec<Vec<String>>,
}

impl CaptionItem {
    /// Tokenizes a corpus of `(caption, references)` as one run of the COCO tools.
    pub fn corpus<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [String])>) -> Vec<Self> {
        let (captions, references): (Vec<&str>, Vec<&[String]>) = pairs.into_iter().unzip();
        let mut candidates = tokenize_corpus(&captions).into_iter();
        let all: Vec<&String> = references.iter().copied().flatten().collect();
        let mut tokens = tokenize_corpus(&all).into_iter();
        let item = |references: &&[String]| Self {
            candidate: candidates.next().unwrap_or_default(),
            references: tokens.by_ref().take(references.len()).collect(),
        };
        references.iter().map(item).collect()
    }

    /// An item from tokens that a space parts.
    pub fn from_tokens(candidate: &str, references: &[&str]) -> Self {
        let tokens =
            |text: &str| text.split(' ').filter(|token| !token.is_empty()).map(str::to_owned).collect();
        Self { candidate: tokens(candidate), references: references.iter().copied().map(tokens).collect() }
    }
}

/// The metrics of one caption or of a corpus, as shares; CIDEr's are times ten, as the tools give them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CaptionScore {
    /// BLEU-1 to BLEU-4.
    pub bleu: [f64; 4],
    /// ROUGE-L.
    pub rouge_l: f64,
    /// CIDEr of its paper.
    pub cider: f64,
    /// CIDEr-D, which the COCO tools call CIDEr.
    pub cider_d: f64,
    /// METEOR's stages `exact` and `stem` alone.
    pub meteor_exact_stem: f64,
}

impl CaptionScore {
    /// By name and times 100, as papers print them.
    pub fn metrics(&self) -> Metrics {
        let [bleu_1, bleu_2, bleu_3, bleu_4] = self.bleu;
        let named = [
            ("bleu_1", bleu_1),
            ("bleu_2", bleu_2),
            ("bleu_3", bleu_3),
            ("bleu_4", bleu_4),
            ("rouge_l", self.rouge_l),
            ("cider", self.cider),
            ("cider_d", self.cider_d),
            ("meteor_exact_stem", self.meteor_exact_stem),
        ];
        named.into_iter().map(|(name, share)| (name.to_owned(), 100.0 * share)).collect()
    }
}

/// The metrics of a corpus and of each of its items.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionScores {
    /// Of all items together: BLEU and METEOR of summed counts, the mean of the others.
    pub corpus: CaptionScore,
    /// Of each item, in their order. BLEU is the smoothed value of the tools.
    pub items: Vec<CaptionScore>,
}

/// How captions are measured.
#[derive(Clone, Debug, Default)]
pub struct CaptionOptions {
    /// The document frequencies of CIDEr; those of the references where they are not given.
    pub frequencies: Option<DocumentFrequencies>,
    /// The parameters of METEOR.
    pub meteor: Meteor,
}

/// All metrics of a corpus.
pub fn caption(items: &[CaptionItem], options: &CaptionOptions) -> CaptionScores {
    let CaptionOptions { frequencies, meteor } = options;
    let own;
    let frequencies = match frequencies {
        Some(frequencies) => frequencies,
        None => {
            own = DocumentFrequencies::of(items.iter().map(|item| &item.references[..]));
            &own
        }
    };
    let mut all_bleu = BleuStatistics::default();
    let mut all_meteor = MeteorStatistics::default();
    let mut score = |item: &CaptionItem| {
        let (counts, matched) = (BleuStatistics::of(item), meteor.statistics(item));
        all_bleu += counts;
        all_meteor += matched;
        CaptionScore {
            bleu: bleu(&counts),
            rouge_l: rouge_l(item),
            cider: cider(item, frequencies, Cider::Plain),
            cider_d: cider(item, frequencies, Cider::D),
            meteor_exact_stem: meteor.score(&matched),
        }
    };
    let scores: Vec<CaptionScore> = items.iter().map(&mut score).collect();
    let mean =
        |value: fn(&CaptionScore) -> f64| scores.iter().map(value).sum::<f64>() / scores.len().max(1) as f64;
    let corpus = CaptionScore {
        bleu: bleu(&all_bleu),
        rouge_l: mean(|score| score.rouge_l),
        cider: mean(|score| score.cider),
        cider_d: mean(|score| score.cider_d),
        meteor_exact_stem: meteor.score(&all_meteor),
    };
    CaptionScores { corpus, items: scores }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corpus_is_tokenized_item_by_item() {
        let references = [vec!["A dog.".to_owned(), "Two, dogs!".to_owned()], vec!["He'll".to_owned()]];
        let items = CaptionItem::corpus([("A dog?", &references[0][..]), ("", &references[1][..])]);
        assert_eq!(items[0], CaptionItem::from_tokens("a dog", &["a dog", "two dogs"]));
        assert_eq!(items[1], CaptionItem::from_tokens("", &["he ll"]));
    }

    #[test]
    fn empty_captions_and_an_empty_corpus_score_nothing() {
        let items = [
            CaptionItem::from_tokens("", &["a dog"]),
            CaptionItem::from_tokens("a cat runs", &["a cat runs", ""]),
        ];
        let scores = caption(&items, &CaptionOptions::default());
        assert!(scores.items[0].metrics().values().all(|&value| value == 0.0), "{scores:?}");
        assert!(scores.items[1].rouge_l == 1.0 && scores.items[1].cider_d > 0.0);
        assert!(
            caption(&[], &CaptionOptions::default()).corpus.metrics().values().all(|&value| value == 0.0)
        );
    }
}
