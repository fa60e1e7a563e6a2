//! What was measured.

use super::plan::Row;

/// One answer: a round of a program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Median time of a run in this round.
    pub seconds: f64,
    /// Memory of the process at its height, in bytes.
    pub peak_memory: Option<u64>,
    /// Share of the limit, where the program tells it.
    pub roofline: Option<f64>,
}

/// The rounds of a program.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its name.
    pub who: String,
    /// In the order of the rounds.
    pub answers: Vec<Answer>,
}

impl Figure {
    /// Nothing yet.
    pub fn new(who: &str) -> Self {
        Self { who: who.to_owned(), answers: Vec::new() }
    }

    /// One more round.
    pub fn add(&mut self, answer: Answer) {
        self.answers.push(answer);
    }

    /// The median of the rounds.
    pub fn seconds(&self) -> f64 {
        median(self.answers.iter().map(|answer| answer.seconds))
    }

    /// The most of all rounds.
    pub fn peak_memory(&self) -> Option<u64> {
        self.answers.iter().filter_map(|answer| answer.peak_memory).max()
    }

    /// The median of the rounds.
    pub fn roofline(&self) -> Option<f64> {
        let shares: Vec<f64> = self.answers.iter().filter_map(|answer| answer.roofline).collect();
        (!shares.is_empty()).then(|| median(shares.into_iter()))
    }
}

/// A row and what everyone did in it.
#[derive(Clone, Debug)]
pub struct Result {
    /// What was measured.
    pub row: Row,
    /// Ours.
    pub own: Figure,
    /// Those of the peers that did not fail.
    pub others: Vec<Figure>,
}

impl Result {
    /// The fastest peer.
    pub fn best(&self) -> Option<&Figure> {
        self.others.iter().min_by(|a, b| a.seconds().total_cmp(&b.seconds()))
    }

    /// How many times as fast as the fastest peer.
    pub fn ratio(&self) -> Option<f64> {
        self.best().map(|best| best.seconds() / self.own.seconds())
    }

    /// Inputs a second.
    pub fn per_second(&self, figure: &Figure) -> f64 {
        self.row.batch as f64 / figure.seconds()
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count => (values[(count - 1) / 2] + values[count / 2]) / 2.0,
    }
}

/// A row with these times of ours and of two peers.
#[cfg(test)]
pub fn example(own: &[f64], first: &[f64], second: &[f64]) -> Result {
    let answer = |seconds| Answer { seconds, peak_memory: Some(2_000_000), roofline: Some(0.5) };
    let figure = |who: &str, times: &[f64]| Figure {
        who: who.to_owned(),
        answers: times.iter().copied().map(answer).collect(),
    };
    Result {
        row: Row { stage: "encode_image", model: Some("clip-rn50"), batch: 16, precision: "bf16" },
        own: figure("tuwen", own),
        others: vec![figure("first", first), figure("second", second)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_medians_to_the_best_peer() {
        let result = example(&[0.5, 0.4, 9.0], &[2.0, 1.0, 1.5], &[1.0, 1.0, 1.0]);
        assert_eq!(result.best().map(|figure| &figure.who[..]), Some("second"));
        assert_eq!(result.ratio(), Some(2.0));
        assert_eq!(result.per_second(&result.own), 32.0);
        assert_eq!(Result { others: vec![], ..result }.ratio(), None);
    }
}
