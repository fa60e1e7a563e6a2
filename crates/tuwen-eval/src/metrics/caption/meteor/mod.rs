//! METEOR without its data: the stages `exact` and `stem`.

mod alignment;

use std::collections::HashSet;
use std::ops::AddAssign;

use rust_stemmers::{Algorithm, Stemmer};

use super::CaptionItem;
use alignment::{Alignment, Kind, align};

/// METEOR 1.5 (Denkowski and Lavie 2014) for English with the stages that match equal tokens and equal stems.
///
/// What is missing: the stages `synonym` (WordNet) and `paraphrase` (a table of 60 MB), and by default the list of function
/// words, which counts them less. Values are therefore lower than METEOR's, and are not to be compared with published ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Meteor {
    /// Weight of precision against recall.
    pub alpha: f64,
    /// Exponent of the share of chunks in the penalty.
    pub beta: f64,
    /// Largest penalty.
    pub gamma: f64,
    /// Weight of words with content against function words.
    pub delta: f64,
    /// Weight of a match of stems; one of equal tokens counts 1.
    pub stem_weight: f64,
    /// Words that count less than others. With METEOR's own list values are those of `meteor -l en -m "exact stem"`, but for
    /// some captions (2 of 1,000) whose best alignment it misses.
    pub function_words: HashSet<String>,
}

impl Default for Meteor {
    /// The parameters of METEOR 1.5 for English, and no function words.
    fn default() -> Self {
        Self {
            alpha: 0.85,
            beta: 0.2,
            gamma: 0.6,
            delta: 0.75,
            stem_weight: 0.6,
            function_words: HashSet::new(),
        }
    }
}

/// What METEOR is made of; the statistics of a corpus are the sums of those of its captions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MeteorStatistics {
    candidate: Side,
    reference: Side,
    /// Runs of matches that stand next to each other on both sides.
    chunks: f64,
    /// Words of captions that match their reference in one run and leave nothing over; no penalty is due for them.
    whole: bool,
}

/// The words of a caption or of a reference, by whether they are function words.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Side {
    content: f64,
    function: f64,
    /// Sums of the weights of matches.
    content_matched: f64,
    function_matched: f64,
    /// Words that match, whatever their weight.
    matched: f64,
}

impl AddAssign for MeteorStatistics {
    fn add_assign(&mut self, other: Self) {
        for (sum, side) in [(&mut self.candidate, other.candidate), (&mut self.reference, other.reference)] {
            sum.content += side.content;
            sum.function += side.function;
            sum.content_matched += side.content_matched;
            sum.function_matched += side.function_matched;
            sum.matched += side.matched;
        }
        // In a corpus, too, what matches as a whole is not scattered.
        self.chunks += if other.whole { 0.0 } else { other.chunks };
        self.whole = false;
    }
}

impl Meteor {
    /// The statistics of a caption against the reference that gives it the highest score.
    pub fn statistics(&self, item: &CaptionItem) -> MeteorStatistics {
        let stemmer = Stemmer::create(Algorithm::English);
        let against = |reference: &Vec<String>| {
            let alignment = align(&item.candidate, reference, &stemmer);
            self.count(&item.candidate, reference, &alignment)
        };
        let best = item
            .references
            .iter()
            .map(against)
            .reduce(|best, other| if self.score(&other) > self.score(&best) { other } else { best });
        best.unwrap_or_default()
    }

    /// The score: a weighted harmonic mean of precision and recall, less a penalty for matches that are scattered.
    pub fn score(&self, statistics: &MeteorStatistics) -> f64 {
        let weigh = |content: f64, function: f64| self.delta * content + (1.0 - self.delta) * function;
        let share = |side: &Side| match weigh(side.content, side.function) {
            0.0 => 0.0,
            all => weigh(side.content_matched, side.function_matched) / all,
        };
        let (precision, recall) = (share(&statistics.candidate), share(&statistics.reference));
        if precision == 0.0 || recall == 0.0 {
            return 0.0;
        }
        let mean = 1.0 / (self.alpha / recall + (1.0 - self.alpha) / precision);
        let matched = (statistics.candidate.matched + statistics.reference.matched) / 2.0;
        let scattered = if statistics.whole { 0.0 } else { statistics.chunks / matched };
        mean * (1.0 - self.gamma * scattered.powf(self.beta))
    }

    fn count(&self, candidate: &[String], reference: &[String], alignment: &Alignment) -> MeteorStatistics {
        let Alignment { pairs, chunks } = alignment;
        let (mut of_candidate, mut of_reference) = (vec![None; candidate.len()], vec![None; reference.len()]);
        for pair in pairs {
            of_candidate[pair.candidate] = Some(pair.kind);
            of_reference[pair.reference] = Some(pair.kind);
        }
        let everything = pairs.len() == candidate.len() && pairs.len() == reference.len();
        MeteorStatistics {
            candidate: self.side(candidate, &of_candidate),
            reference: self.side(reference, &of_reference),
            chunks: *chunks as f64,
            whole: everything && *chunks == 1,
        }
    }

    /// Counts the words of one side, each with how it matches.
    fn side(&self, tokens: &[String], matches: &[Option<Kind>]) -> Side {
        let mut side = Side { matched: matches.iter().flatten().count() as f64, ..Side::default() };
        for (token, kind) in tokens.iter().zip(matches) {
            let weight = match kind {
                Some(Kind::Exact) => 1.0,
                Some(Kind::Stem) => self.stem_weight,
                None => 0.0,
            };
            let (words, matched) = if self.function_words.contains(token) {
                (&mut side.function, &mut side.function_matched)
            } else {
                (&mut side.content, &mut side.content_matched)
            };
            *words += 1.0;
            *matched += weight;
        }
        side
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_count_less_and_scattered_matches_too() {
        let meteor = Meteor::default();
        let score = |candidate: &str, reference: &str| {
            meteor.score(&meteor.statistics(&CaptionItem::from_tokens(candidate, &[reference])))
        };
        assert_eq!(score("two dogs run", "two dogs run"), 1.0);
        assert_eq!(score("a cat", "two dogs"), 0.0);
        assert_eq!(score("", "two dogs"), 0.0);
        let stems = (1.0 + 0.6 + 0.6) / 3.0;
        assert!((score("two dog running", "two dogs run") - stems).abs() < 1e-12);
        // Three matches in two runs.
        let expected = 1.0 - 0.6 * (2.0_f64 / 3.0).powf(0.2);
        assert!((score("run two dogs", "two dogs run") - expected).abs() < 1e-12);
    }

    #[test]
    fn function_words_count_less_where_they_are_known() {
        let meteor = Meteor { function_words: HashSet::from(["the".to_owned()]), ..Meteor::default() };
        let item = CaptionItem::from_tokens("the cat", &["the dog"]);
        let share = 0.25; // 0.25 of 0.25 + 0.75
        let expected = share * (1.0 - 0.6 * 1.0);
        assert!((meteor.score(&meteor.statistics(&item)) - expected).abs() < 1e-12);
    }
}
