//! Beams that go on and beams that are finished, by the rules of two versions of transformers.

use super::beams::BEHIND;
use super::{BeamRules, EarlyStopping, Finish, Generated, GenerationConfig, Listener, finish};

/// A text that may be continued.
#[derive(Clone, Debug)]
pub struct Beam {
    /// The prompt and what was written.
    pub ids: Vec<u32>,
    /// Of what was written.
    token_scores: Vec<f32>,
    /// Scores of its tokens, after processors, together.
    pub sum: f32,
    /// Which beam of the step before it goes on from.
    pub parent: usize,
}

/// A beam with one more token.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which beam.
    pub beam: usize,
    /// The token.
    pub token: u32,
    /// By what it was chosen.
    pub rank: f32,
    /// Scores of all tokens together.
    pub sum: f32,
    /// Logarithm of the token's probability.
    pub log_probability: f32,
}

impl Beam {
    pub fn of_prompt(prompt: &[u32], sum: f32) -> Self {
        Self { ids: prompt.to_vec(), token_scores: Vec::new(), sum, parent: 0 }
    }

    pub fn last(&self) -> u32 {
        self.ids.last().copied().unwrap_or_default()
    }

    fn with(&self, candidate: &Candidate) -> Self {
        let mut beam = self.clone();
        beam.ids.push(candidate.token);
        beam.token_scores.push(candidate.log_probability);
        Self { sum: candidate.sum, parent: candidate.beam, ..beam }
    }
}

/// What is finished of a search, and whether this ends.
pub struct Hypotheses<'a> {
    config: &'a GenerationConfig,
    /// Tokens of the prompt.
    prompt: usize,
    /// At most as many as there are beams.
    kept: Vec<Generated>,
    /// Whether nothing better is to be found.
    pub ended: bool,
}

impl<'a> Hypotheses<'a> {
    pub fn new(config: &'a GenerationConfig, prompt: usize) -> Self {
        Self { config, prompt, kept: Vec::new(), ended: false }
    }

    /// Goes on with the best candidates, and keeps those that are finished; as many beams as before come back.
    pub fn advance(
        &mut self,
        beams: &[Beam],
        candidates: Vec<Candidate>,
        listener: &dyn Listener,
    ) -> Vec<Beam> {
        let grown = candidates.iter().map(|candidate| {
            let beam = beams[candidate.beam].with(candidate);
            let finish = finish(&beam.ids, self.prompt, self.config, listener);
            (beam, finish)
        });
        let grown: Vec<_> = grown.collect();
        match self.config.beam_rules {
            BeamRules::Transformers4 => self.advance_by_4(grown),
            BeamRules::Transformers5 => self.advance_by_5(grown),
        }
    }

    /// The best finished texts, the best first.
    pub fn best(self) -> Vec<Generated> {
        let Self { config, mut kept, .. } = self;
        if config.beam_rules == BeamRules::Transformers4 {
            // Of equal ones the later, as the reference takes them from the end of what it sorted upwards.
            kept.reverse();
            kept.sort_by(|a, b| b.score.total_cmp(&a.score));
        }
        kept.truncate(config.num_return_sequences);
        kept
    }

    fn is_full(&self) -> bool {
        self.kept.len() >= self.config.num_beams
    }

    fn generated(&self, beam: &Beam, score: f32, finish: Finish) -> Generated {
        Generated {
            ids: beam.ids[self.prompt..].to_vec(),
            token_scores: beam.token_scores.clone(),
            score,
            finish,
        }
    }

    fn normalized(&self, sum: f32, length: usize) -> f32 {
        sum / (length as f32).powf(self.config.length_penalty)
    }

    /// A finished text is one of the `num_beams` best candidates that ends or is as long as may be.
    fn advance_by_5(&mut self, grown: Vec<(Beam, Option<Finish>)>) -> Vec<Beam> {
        let (beams, early) = (self.config.num_beams, self.config.early_stopping);
        let closed = self.is_full() && early == EarlyStopping::True;
        let length = grown.first().map_or(0, |(beam, _)| beam.ids.len()) - self.prompt;
        for (beam, finish) in grown.iter().take(beams) {
            if let Some(finish) = *finish
                && !closed
            {
                self.keep_sorted(self.generated(beam, self.normalized(beam.sum, length), finish));
            }
        }
        let nothing_open = grown.iter().all(|(_, finish)| finish.is_some());
        let (over, open): (Vec<_>, Vec<_>) = grown.into_iter().partition(|(_, finish)| finish.is_some());
        // Beams that are over stand in where too few are open, far behind.
        let over = over.into_iter().map(|(beam, _)| Beam { sum: beam.sum + BEHIND, ..beam });
        let next: Vec<Beam> = open.into_iter().map(|(beam, _)| beam).chain(over).take(beams).collect();
        let full = self.is_full();
        let improves = !full || self.may_improve(&next, length);
        self.ended = nothing_open || !improves || (full && early == EarlyStopping::True);
        next
    }

    /// Keeps a text if it is one of the best.
    fn keep_sorted(&mut self, text: Generated) {
        if text.score > BEHIND {
            let at = self.kept.partition_point(|other| other.score >= text.score);
            self.kept.insert(at, text);
            self.kept.truncate(self.config.num_beams);
        }
    }

    /// Whether the best open beam would be kept if it ended now, or (where it may be rewarded for length) at last.
    fn may_improve(&self, open: &[Beam], length: usize) -> bool {
        let at_last = self.config.max_length_after(self.prompt) - self.prompt;
        let length = if self.counts_on_length() { at_last } else { length };
        let best = open.first().map_or(f32::NEG_INFINITY, |beam| self.normalized(beam.sum, length));
        self.kept.last().is_none_or(|worst| best > worst.score)
    }

    fn counts_on_length(&self) -> bool {
        self.config.early_stopping == EarlyStopping::Never && self.config.length_penalty > 0.0
    }

    /// A finished text is one of the `num_beams` best candidates that ends, without its end; and every beam that is open
    /// when it is as long as may be.
    fn advance_by_4(&mut self, grown: Vec<(Beam, Option<Finish>)>) -> Vec<Beam> {
        let beams = self.config.num_beams;
        let best = grown.first().map_or(f32::NEG_INFINITY, |(beam, _)| beam.sum);
        let mut next = Vec::with_capacity(beams);
        for (rank, (beam, finish)) in grown.into_iter().enumerate() {
            match finish {
                Some(Finish::EndToken) if rank < beams => {
                    self.keep(&beam, beam.ids.len() - 1, Finish::EndToken)
                }
                Some(Finish::Stopped) if rank < beams => self.keep(&beam, beam.ids.len(), Finish::Stopped),
                Some(Finish::EndToken | Finish::Stopped) => {}
                Some(Finish::Length) | None => next.push(beam),
            }
            if next.len() == beams {
                break;
            }
        }
        let length = next.first().map_or(0, |beam| beam.ids.len());
        let longest = self.config.max_length_after(self.prompt);
        let counted = if self.counts_on_length() { longest } else { length.saturating_sub(1) };
        let no_better = || self.worst() >= self.normalized(best, counted);
        self.ended = self.is_full() && (self.config.early_stopping == EarlyStopping::True || no_better());
        if !self.ended && (length >= longest || next.is_empty()) {
            next.iter().for_each(|beam| self.keep(beam, beam.ids.len(), Finish::Length));
            self.ended = true;
        }
        next
    }

    /// Keeps a text of so many tokens if there are few or it is better than one of them, which goes then.
    fn keep(&mut self, beam: &Beam, length: usize, finish: Finish) {
        let score = self.normalized(beam.sum, length);
        if self.is_full() {
            if score <= self.worst() {
                return;
            }
            let worst = self.worst();
            if let Some(worst) = self.kept.iter().position(|text| text.score <= worst) {
                self.kept.remove(worst);
            }
        }
        self.kept.push(self.generated(beam, score, finish));
    }

    fn worst(&self) -> f32 {
        self.kept.iter().map(|text| text.score).fold(f32::INFINITY, f32::min)
    }
}
