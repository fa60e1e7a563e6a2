//! From what is known of samples to a report on their sources.

use std::collections::{BTreeMap, HashMap};

use super::sample::{Facts, Hash};
use super::{Finding, Problem, Source, SourceReport};

/// Examples of a problem that a report gives.
const EXAMPLES: usize = 3;

/// Number of a source, and of a sample there.
type Place = (usize, usize);

/// Findings so far. It holds some thirty bytes for each image and each text.
pub(super) struct Tally<'a> {
    sources: &'a [Source<'a>],
    reports: Vec<(SourceReport, BTreeMap<Problem, Finding>)>,
    images: HashMap<Hash, Place>,
    texts: HashMap<Hash, Place>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(sources: &'a [Source<'a>]) -> Self {
        let report = |source: &Source| SourceReport {
            source: source.dataset.name().to_owned(),
            samples: source.dataset.len(),
            looked_at: 0,
            usable: 0,
            findings: Vec::new(),
            faults: source.dataset.faults().to_vec(),
        };
        let reports = sources.iter().map(|source| (report(source), BTreeMap::new())).collect();
        Self { sources, reports, images: HashMap::new(), texts: HashMap::new() }
    }

    /// Takes up a sample of a source.
    pub(super) fn add(&mut self, source: usize, mut facts: Facts) {
        let place = (source, facts.index);
        let report = &mut self.reports[source].0;
        report.looked_at += 1;
        report.usable += usize::from(facts.is_usable());
        for (problem, example) in std::mem::take(&mut facts.problems) {
            self.count(source, problem, |_| example);
        }
        if let Some(first) = facts.image.and_then(|image| seen_elsewhere(&mut self.images, image, place)) {
            self.count(source, Problem::DuplicateImage, |tally| tally.pair(place, &facts.key, first));
        }
        if !self.sources[source].texts_repeat {
            let seen = facts.texts.iter().filter_map(|text| seen_elsewhere(&mut self.texts, *text, place));
            // All texts have to be taken up, also behind the first one that was there.
            let firsts: Vec<Place> = seen.collect();
            if let Some(&first) = firsts.first() {
                self.count(source, Problem::DuplicateText, |tally| tally.pair(place, &facts.key, first));
            }
        }
    }

    /// All reports, in the order of the sources.
    pub(super) fn reports(self) -> Vec<SourceReport> {
        let finish = |(report, findings): (SourceReport, BTreeMap<Problem, Finding>)| SourceReport {
            findings: findings.into_values().collect(),
            ..report
        };
        self.reports.into_iter().map(finish).collect()
    }

    fn count(&mut self, source: usize, problem: Problem, example: impl FnOnce(&Self) -> String) {
        let has_room = |finding: &Finding| finding.examples.len() < EXAMPLES;
        let example = self.reports[source].1.get(&problem).is_none_or(has_room).then(|| example(self));
        let new = || Finding { problem, count: 0, examples: Vec::new() };
        let finding = self.reports[source].1.entry(problem).or_insert_with(new);
        finding.count += 1;
        finding.examples.extend(example);
    }

    /// `b.png = a.png`, with the name of the other source where it is another.
    fn pair(&self, place: Place, key: &str, first: Place) -> String {
        let dataset = self.sources[first.0].dataset;
        // Read again: to keep all names would take more memory than they are worth.
        let name = dataset.get(first.1).map_or_else(|_| format!("sample {}", first.1), |sample| sample.key);
        let of = if first.0 == place.0 { String::new() } else { format!(" of {}", dataset.name()) };
        format!("{key} = {name}{of}")
    }
}

/// Where something was first seen, if that was in another sample.
fn seen_elsewhere(seen: &mut HashMap<Hash, Place>, what: Hash, place: Place) -> Option<Place> {
    let first = *seen.entry(what).or_insert(place);
    (first != place).then_some(first)
}
