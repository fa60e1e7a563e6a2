//! Beam search: several texts about each thing are continued at the same time, and the best are kept.

use tuwen_data::rng::Rng;
use tuwen_tensor::Tensor;

use super::hypotheses::{Beam, Candidate, Hypotheses};
use super::rows::{Row, each_row, greatest};
use super::{
    Generated, GenerationConfig, GenerationError, Listener, Processor, Sequences, Start, Token, next_tokens,
    prompts,
};

/// What beams are behind that stand for no text of their own.
pub const BEHIND: f32 = -1e9;

/// The search for texts about one thing.
struct Search<'a> {
    start: &'a Start,
    /// Open texts; their numbers are those of the network's rows, from that of the first one on.
    beams: Vec<Beam>,
    finished: Hypotheses<'a>,
}

/// How candidates are scored.
struct Scoring<'a> {
    config: &'a GenerationConfig,
    processors: Vec<Processor>,
    /// Candidates for each thing: enough to go on with, whichever of them end.
    kept: usize,
}

pub fn generate(
    sequences: &mut dyn Sequences,
    starts: &[Start],
    config: &GenerationConfig,
    listener: &mut dyn Listener,
) -> Result<Vec<Vec<Generated>>, GenerationError> {
    let prompt = starts[0].prompt.len();
    let scoring = Scoring {
        config,
        processors: [config.processors(prompt), config.warpers()].concat(),
        kept: config.num_beams * (1 + config.eos_token_ids.len()).max(2),
    };
    let search = |start| Search::new(start, config);
    let mut searches: Vec<Search<'_>> = starts.iter().map(search).collect();
    let mut open: Vec<usize> = (0..searches.len()).collect();
    let mut logits = sequences.step(&prompts(starts));
    // At first there is one row for each thing, and all beams go on from it.
    let mut rows_of_each = 1;
    loop {
        let candidates = candidates(&searches, &open, &logits, rows_of_each, &scoring)?;
        let mut selected = Vec::new();
        let mut going = Vec::new();
        for (place, (&i, candidates)) in open.iter().zip(candidates).enumerate() {
            let search = &mut searches[i];
            search.beams = search.finished.advance(&search.beams, candidates, &*listener);
            if !search.finished.ended {
                let row = |beam: &Beam| (place * rows_of_each + beam.parent.min(rows_of_each - 1)) as u32;
                selected.extend(search.beams.iter().map(row));
                going.push(i);
            }
        }
        open = going;
        if open.is_empty() {
            break;
        }
        sequences.select(&selected);
        rows_of_each = config.num_beams;
        let last = open.iter().flat_map(|&i| searches[i].beams.iter().map(Beam::last)).collect();
        logits = sequences.step(&next_tokens(last));
    }
    let texts: Vec<Vec<Generated>> = searches.into_iter().map(|search| search.finished.best()).collect();
    tell(&texts, listener);
    Ok(texts)
}

/// The best continuations of the beams of each open search, the best first.
fn candidates(
    searches: &[Search<'_>],
    open: &[usize],
    logits: &Tensor,
    rows_of_each: usize,
    scoring: &Scoring<'_>,
) -> Result<Vec<Vec<Candidate>>, GenerationError> {
    let (vocabulary, beams) = (logits.last_dim(), scoring.config.num_beams);
    let found = each_row(logits, open.len() * beams, |i, values| {
        let (place, beam) = (i / beams, i % beams);
        // Beams without a text of their own matter only where there are fewer tokens than candidates.
        if beam >= rows_of_each && vocabulary >= scoring.kept {
            return Ok(Vec::new());
        }
        let row = Row::new(
            &values[(place * rows_of_each + beam.min(rows_of_each - 1)) * vocabulary..][..vocabulary],
        )?;
        Ok(scoring.of_beam(&searches[open[place]], beam, &row))
    })?;
    let mut found = found.into_iter();
    Ok(open.iter().map(|_| scoring.best(found.by_ref().take(beams).flatten().collect())).collect())
}

impl Scoring<'_> {
    /// The best continuations of one beam.
    fn of_beam(&self, search: &Search<'_>, number: usize, row: &Row<'_>) -> Vec<Candidate> {
        let beam = &search.beams[number];
        let mut sums = row.log_probabilities(&beam.ids, &self.processors);
        sums.iter_mut().for_each(|score| *score += beam.sum);
        let candidate = |(token, rank, sum)| Candidate {
            beam: number,
            token,
            rank,
            sum,
            log_probability: row.log_probability(token),
        };
        if !self.config.do_sample {
            let best = greatest(&sums, self.kept).into_iter();
            return best.map(|(token, sum)| candidate((token, sum, sum))).collect();
        }
        // Those that are greatest after a draw from Gumbel's distribution are a draw without replacement.
        let name = [self.config.seed, search.start.stream, beam.ids.len() as u64, number as u64];
        let mut rng = Rng::new(&name);
        let ranks: Vec<f32> = sums.iter().map(|sum| sum + gumbel(&mut rng)).collect();
        let drawn = greatest(&ranks, self.kept).into_iter();
        drawn.map(|(token, rank)| candidate((token, rank, sums[token as usize]))).collect()
    }

    /// The best of the continuations of all beams.
    fn best(&self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        candidates.sort_by(|a, b| b.rank.total_cmp(&a.rank));
        candidates.truncate(self.kept);
        candidates.sort_by(|a, b| b.sum.total_cmp(&a.sum));
        candidates
    }
}

impl<'a> Search<'a> {
    /// As many beams as are asked for, of which only the first stands for the prompt.
    fn new(start: &'a Start, config: &'a GenerationConfig) -> Self {
        let beam = |number: usize| Beam::of_prompt(&start.prompt, if number == 0 { 0.0 } else { BEHIND });
        Self {
            start,
            beams: (0..config.num_beams).map(beam).collect(),
            finished: Hypotheses::new(config, start.prompt.len()),
        }
    }
}

fn gumbel(rng: &mut Rng) -> f32 {
    let uniform = (f64::from(rng.uniform()) + 0.5 / f64::from(1u32 << 24)).clamp(f64::MIN_POSITIVE, 1.0);
    (-(-uniform.ln()).ln()) as f32
}

/// Hands over the tokens of finished texts.
fn tell(texts: &[Vec<Generated>], listener: &mut dyn Listener) {
    for (start, texts) in texts.iter().enumerate() {
        for (sequence, text) in texts.iter().enumerate() {
            for (&id, &log_probability) in text.ids.iter().zip(&text.token_scores) {
                listener.token(Token { start, sequence, id, log_probability });
            }
        }
    }
}
