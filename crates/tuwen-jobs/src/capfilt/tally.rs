//! Counts, histograms and examples of a shard or of a whole job.

use serde::{Deserialize, Serialize};
use tuwen_data::rng::Rng;

use super::record::{JudgedText, Record, TextSource};
use super::seed;

/// Bars of a histogram.
pub const BINS: usize = 40;
/// Failures that are told with their reason.
const REASONS: usize = 20;
/// Examples of each kind that a shard or a job tells.
const EXAMPLES: usize = 12;

/// What became of samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// All samples.
    pub samples: u64,
    /// Those of which a text is kept.
    pub kept: u64,
    /// Those that came without a text.
    pub without_text: u64,
    /// Those that came without an image, as downloads that failed do.
    pub without_image: u64,
    /// Those whose key had occurred before, in a shard or in the job.
    pub duplicate_keys: u64,
    /// Those that could not be read or decoded.
    pub failed: u64,
    /// The first of these, each with its key and reason.
    pub reasons: Vec<[String; 2]>,
    /// Texts that came with images.
    pub web: TextTally,
    /// Captions of the model.
    pub synthetic: TextTally,
}

/// What became of texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TextTally {
    /// All texts.
    pub texts: u64,
    /// Those that are kept.
    pub kept: u64,
    /// Those that were longer than the filter reads, which scored their beginnings.
    #[serde(default)]
    pub cut: u64,
    /// Probabilities of a match: equal bins from 0 to 1; empty where there are none.
    pub itm: Vec<u64>,
    /// Cosines: equal bins from -1 to 1; empty where there are none.
    pub itc: Vec<u64>,
    /// Texts that are kept, drawn at random.
    pub examples_kept: Vec<Example>,
    /// Texts that are dropped, drawn at random.
    pub examples_dropped: Vec<Example>,
}

/// A text to look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Examples of the lowest numbers are shown.
    pub draw: u64,
    /// Where the sample lies.
    pub source: String,
    /// Its number there.
    pub index: usize,
    /// Its key.
    pub key: String,
    /// The text and its scores.
    pub text: JudgedText,
}

impl Tally {
    /// Counts a sample of a source.
    pub fn add(&mut self, record: &Record, source: &str) {
        self.samples += 1;
        self.kept += u64::from(record.kept);
        if let Some(reason) = &record.error {
            self.failed += 1;
            self.reasons.push([record.key.clone(), reason.clone()]);
            self.reasons.truncate(REASONS);
        }
        for (number, text) in record.texts.iter().enumerate() {
            let draw = Rng::new(&[seed(number as u64, &record.key), record.index as u64]).next_u64();
            let source = source.to_owned();
            let example =
                Example { draw, source, index: record.index, key: record.key.clone(), text: text.clone() };
            match text.source {
                TextSource::Web => self.web.add(example),
                TextSource::Synthetic => self.synthetic.add(example),
            }
        }
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.samples += other.samples;
        self.kept += other.kept;
        self.without_text += other.without_text;
        self.without_image += other.without_image;
        self.duplicate_keys += other.duplicate_keys;
        self.failed += other.failed;
        self.reasons.extend_from_slice(&other.reasons);
        self.reasons.truncate(REASONS);
        self.web.merge(&other.web);
        self.synthetic.merge(&other.synthetic);
    }
}

impl TextTally {
    fn add(&mut self, example: Example) {
        let JudgedText { kept, itm, itc, cut, .. } = example.text;
        self.texts += 1;
        self.cut += u64::from(cut);
        self.kept += u64::from(kept);
        count(&mut self.itm, itm);
        count(&mut self.itc, itc.map(|cosine| (cosine + 1.0) / 2.0));
        let examples = if kept { &mut self.examples_kept } else { &mut self.examples_dropped };
        examples.push(example);
        lowest(examples);
    }

    fn merge(&mut self, other: &Self) {
        self.texts += other.texts;
        self.kept += other.kept;
        self.cut += other.cut;
        merge_bins(&mut self.itm, &other.itm);
        merge_bins(&mut self.itc, &other.itc);
        for (ours, theirs) in [
            (&mut self.examples_kept, &other.examples_kept),
            (&mut self.examples_dropped, &other.examples_dropped),
        ] {
            ours.extend_from_slice(theirs);
            lowest(ours);
        }
    }
}

/// Counts a score between 0 and 1; what is no number counts as 0.
fn count(bins: &mut Vec<u64>, score: Option<f32>) {
    let Some(score) = score else { return };
    bins.resize(BINS, 0);
    let bin = (score.max(0.0) * BINS as f32) as usize;
    bins[bin.min(BINS - 1)] += 1;
}

fn merge_bins(ours: &mut Vec<u64>, theirs: &[u64]) {
    ours.resize(ours.len().max(theirs.len()), 0);
    ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours += theirs);
}

/// Leaves the examples of the lowest numbers, whatever the order that they came in.
fn lowest(examples: &mut Vec<Example>) {
    examples.sort_by(|a, b| (a.draw, &a.key).cmp(&(b.draw, &b.key)));
    examples.truncate(EXAMPLES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scores;
    use crate::capfilt::Rule;

    fn records() -> Vec<Record> {
        let rule = Rule { itm: Some(0.5), itc: None };
        let text = |score: f32| {
            let scores = Scores { itm: Some(score), itc: Some(2.0 * score - 1.0), cut: score > 0.9 };
            JudgedText::web("a".into()).judged(scores, &rule)
        };
        let record = |i: usize| Record::judged(format!("k{i}"), i, vec![text(i as f32 / 99.0)]);
        (0..100).map(record).chain([Record::failed("bad".into(), 100, "cut".into())]).collect()
    }

    #[test]
    fn what_is_counted_in_parts_is_counted_as_a_whole() {
        let of = |records: &[Record]| {
            let mut tally = Tally::default();
            records.iter().for_each(|record| tally.add(record, "a.tar"));
            tally
        };
        let records = records();
        let whole = of(&records);
        assert_eq!((whole.samples, whole.kept, whole.failed), (101, 50, 1));
        assert_eq!((whole.web.texts, whole.web.kept, whole.synthetic.texts), (100, 50, 0));
        assert_eq!((whole.web.cut, whole.synthetic.cut), (10, 0));
        assert_eq!(whole.web.itm.iter().sum::<u64>(), 100);
        assert_eq!((whole.web.itm.len(), whole.web.itm == whole.web.itc), (BINS, true));
        assert_eq!(whole.web.examples_dropped.len(), EXAMPLES);
        for cut in [0, 1, 37, 101] {
            let mut merged = of(&records[cut..]);
            merged.merge(&of(&records[..cut]));
            assert_eq!(merged, whole, "cut at {cut}");
        }
    }

    #[test]
    fn scores_beyond_the_ends_count_at_the_ends() {
        let mut bins = Vec::new();
        [f32::NAN, -3.0, 0.0, 1.0, 1.5].into_iter().for_each(|score| count(&mut bins, Some(score)));
        assert_eq!((bins[0], bins[BINS - 1]), (3, 2));
        count(&mut bins, None);
        assert_eq!(bins.iter().sum::<u64>(), 5);
    }
}
