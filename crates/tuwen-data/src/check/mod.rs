//! A look at data before they are learnt from: what is missing, broken, empty, double, or of a strange size.
//!
//! The quick look reads part of the samples, as far as its time goes, and of images their headers; a complete one
//! decodes every image.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::dataset::{DataError, Dataset};
use crate::parallel;
use crate::rng::Rng;

mod sample;
mod tally;

use sample::Facts;
use tally::Tally;

/// Samples that are looked at side by side; between two such blocks the clock is read.
const BLOCK: usize = 64;

/// Neighbouring samples that a quick look takes together: some formats read them together.
const RUN: usize = 16;

/// Threads for samples that come over a network.
const REQUESTS: usize = 16;

/// How closely to look.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Looks at every sample and decodes its image; otherwise at a part of them, and at headers.
    pub complete: bool,
    /// Most samples of a source that a quick look takes.
    pub samples: usize,
    /// Most time that a quick look takes for a source.
    pub time: Duration,
    /// Threads that look.
    pub threads: usize,
    /// What is learnt is the class of an image; texts are not looked at.
    pub classes: bool,
    /// Questions are texts too.
    pub questions: bool,
    /// Images whose shorter side has fewer pixels are tiny.
    pub min_side: u64,
    /// Images of more pixels are huge: they cost more to decode than they can teach.
    pub max_pixels: u64,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            complete: false,
            samples: 2000,
            time: Duration::from_secs(3),
            threads: 1,
            classes: false,
            questions: false,
            min_side: 16,
            max_pixels: 50_000_000,
        }
    }
}

/// What can be wrong with a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// The image is not there. Such samples are passed over in training, as are all up to `NoText`; a sample of `NoClass` stops it.
    MissingImage,
    /// The image, or what is said of it, cannot be read.
    Unreadable,
    /// The image is a sliver.
    Sliver,
    /// There is no text, or only empty ones.
    NoText,
    /// There is no class where classes are learnt.
    NoClass,
    /// Another sample has an image of the same bytes.
    DuplicateImage,
    /// Another sample has the same text.
    DuplicateText,
    /// The image has hardly any pixels.
    TinyImage,
    /// The image has more pixels than it is worth decoding.
    HugeImage,
}

impl Problem {
    /// Whether nothing can be learnt from such a sample.
    pub fn is_fatal(self) -> bool {
        self <= Self::NoClass
    }
}

impl fmt::Display for Problem {
    /// Goes on behind a number: `3 samples ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissingImage => "have no image",
            Self::Unreadable => "cannot be read",
            Self::Sliver => "are far too long for their width",
            Self::NoText => "have no text, or an empty one",
            Self::NoClass => "have no class",
            Self::DuplicateImage => "have the image of another one",
            Self::DuplicateText => "have a text of another one",
            Self::TinyImage => "have a tiny image",
            Self::HugeImage => "have a huge image",
        })
    }
}

/// How often a problem was found, and where first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub problem: Problem,
    /// With how many samples.
    pub count: usize,
    /// The first of them, with what there is to say.
    pub examples: Vec<String>,
}

/// What was found in a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceReport {
    /// Its name.
    pub source: String,
    /// Its samples.
    pub samples: usize,
    /// Those that were looked at.
    pub looked_at: usize,
    /// Those of them that can be learnt from.
    pub usable: usize,
    /// What was found, by problem.
    pub findings: Vec<Finding>,
    /// Files of it that were cut and are passed over from there on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

impl SourceReport {
    /// Whether there is nothing to say.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.faults.is_empty()
    }

    /// An error if no sample can be used.
    pub fn usable(&self) -> Result<(), DataError> {
        if self.usable > 0 {
            return Ok(());
        }
        let worst = self
            .findings
            .iter()
            .filter(|finding| finding.problem.is_fatal())
            .max_by_key(|finding| finding.count);
        let reason = worst.and_then(|finding| finding.examples.first()).cloned().unwrap_or_default();
        Err(DataError::NothingUsable { name: self.source.clone(), looked_at: self.looked_at, reason })
    }
}

/// A data set to be looked at.
pub struct Source<'a> {
    /// The data set.
    pub dataset: &'a dyn Dataset,
    /// Whether its texts are made from a few classes, so that they are equal by nature.
    pub texts_repeat: bool,
}

/// Looks at these sources; duplicates are sought in all of them together. `progress` is told how many samples were
/// looked at since the last time.
pub fn check(
    sources: &[Source],
    options: &CheckOptions,
    progress: &mut dyn FnMut(usize),
) -> Vec<SourceReport> {
    let mut tally = Tally::new(sources);
    for (number, source) in sources.iter().enumerate() {
        if options.complete {
            let indices: Vec<usize> = (0..source.dataset.len()).collect();
            for block in indices.chunks(BLOCK) {
                look(source, block, options).into_iter().for_each(|facts| tally.add(number, facts));
                progress(block.len());
            }
        } else {
            quick(source, number, options, progress).into_iter().for_each(|facts| tally.add(number, facts));
        }
    }
    tally.reports()
}

/// Looks at a part of a source while time lasts, in random order so that the part is a fair one; what was found is in
/// the order of the samples.
fn quick(
    source: &Source,
    number: usize,
    options: &CheckOptions,
    progress: &mut dyn FnMut(usize),
) -> Vec<Facts> {
    let start = Instant::now();
    let mut found = Vec::new();
    for block in chosen(source.dataset.len(), options.samples, number).chunks(BLOCK) {
        if !found.is_empty() && start.elapsed() > options.time {
            break;
        }
        found.extend(look(source, block, options));
        progress(block.len());
    }
    found.sort_by_key(|facts| facts.index);
    found
}

/// At most so many samples of `len`, in runs of neighbours; the runs in random order.
fn chosen(len: usize, most: usize, number: usize) -> Vec<usize> {
    let mut runs: Vec<u32> = (0..u32::try_from(len.div_ceil(RUN)).unwrap_or(u32::MAX)).collect();
    Rng::new(&[number as u64]).shuffle(&mut runs);
    let samples = runs.into_iter().flat_map(|run| (run as usize * RUN..len).take(RUN));
    samples.take(most).collect()
}

fn look(source: &Source, indices: &[usize], options: &CheckOptions) -> Vec<Facts> {
    let threads = if source.dataset.is_remote() { REQUESTS } else { options.threads };
    parallel::map(indices, threads, |&index| Facts::of(source.dataset, index, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_fair_and_whole_where_it_can_be() {
        let mut all = chosen(100, 1000, 0);
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..100));
        let part = chosen(100_000, 2000, 1);
        assert_eq!(part.len(), 2000);
        let mean = part.iter().sum::<usize>() / part.len();
        assert!((40_000..60_000).contains(&mean), "{mean}");
    }

    #[test]
    fn fatal_problems_come_first() {
        let fatal = [Problem::MissingImage, Problem::Unreadable, Problem::Sliver, Problem::NoText];
        assert!(fatal.into_iter().all(Problem::is_fatal));
        let others =
            [Problem::DuplicateImage, Problem::DuplicateText, Problem::TinyImage, Problem::HugeImage];
        assert!(!others.into_iter().any(Problem::is_fatal));
    }
}
