//! One token after another: the most probable, or one that is drawn.

use tuwen_data::rng::Rng;
use tuwen_tensor::Tensor;

use super::rows::{Row, each_row, greatest};
use super::warpers::softmax;
use super::{
    Finish, Generated, GenerationConfig, GenerationError, Listener, Processor, Sequences, Start, Token,
    finish, next_tokens, prompts,
};

/// A text that is being written.
struct Text {
    start: usize,
    sequence: usize,
    /// The prompt and what was written.
    ids: Vec<u32>,
    token_scores: Vec<f32>,
    rng: Rng,
    finish: Option<Finish>,
}

/// How tokens are chosen.
struct Choice {
    processors: Vec<Processor>,
    do_sample: bool,
}

pub fn generate(
    sequences: &mut dyn Sequences,
    starts: &[Start],
    config: &GenerationConfig,
    listener: &mut dyn Listener,
) -> Result<Vec<Vec<Generated>>, GenerationError> {
    let prompt = starts[0].prompt.len();
    let processors = [config.processors(prompt), config.warpers()].concat();
    let choice = Choice { processors, do_sample: config.do_sample };
    let mut texts = texts(starts, config);
    let mut open: Vec<usize> = (0..texts.len()).collect();
    // Which row of the network's each open text goes on from: at first texts about one thing go on from one row.
    let mut rows: Vec<u32> = texts.iter().map(|text| text.start as u32).collect();
    let mut count = starts.len();
    let mut logits = sequences.step(&prompts(starts));
    loop {
        choose(&mut texts, &open, &rows, &logits, &choice)?;
        for &i in &open {
            let text = &mut texts[i];
            text.finish = finish(&text.ids, prompt, config, listener);
            listener.token(text.last());
        }
        let going: Vec<usize> = (0..open.len()).filter(|&i| texts[open[i]].finish.is_none()).collect();
        if going.is_empty() {
            break;
        }
        rows = going.iter().map(|&i| rows[i]).collect();
        open = going.iter().map(|&i| open[i]).collect();
        if !rows.iter().copied().eq(0..count as u32) {
            sequences.select(&rows);
        }
        (count, rows) = (open.len(), (0..open.len() as u32).collect());
        logits = sequences.step(&next_tokens(open.iter().map(|&i| texts[i].last().id).collect()));
    }
    let mut texts = texts.into_iter();
    let of_each = config.num_return_sequences;
    Ok(starts.iter().map(|_| texts.by_ref().take(of_each).map(|text| text.ended(prompt)).collect()).collect())
}

/// The texts about each thing, which begin as its prompt.
fn texts(starts: &[Start], config: &GenerationConfig) -> Vec<Text> {
    let text = |(start, begun): (usize, &Start), sequence: usize| Text {
        start,
        sequence,
        ids: begun.prompt.clone(),
        token_scores: Vec::new(),
        rng: Rng::new(&[config.seed, begun.stream, sequence as u64]),
        finish: None,
    };
    let of_start = |start| (0..config.num_return_sequences).map(move |sequence| text(start, sequence));
    starts.iter().enumerate().flat_map(of_start).collect()
}

/// Adds a token to each open text.
fn choose(
    texts: &mut [Text],
    open: &[usize],
    rows: &[u32],
    logits: &Tensor,
    choice: &Choice,
) -> Result<(), GenerationError> {
    let vocabulary = logits.last_dim();
    let chosen = each_row(logits, open.len(), |i, values| {
        let text = &texts[open[i]];
        let row = Row::new(&values[rows[i] as usize * vocabulary..][..vocabulary])?;
        let mut rng = text.rng.clone();
        let scores = row.logits(&text.ids, &choice.processors);
        let id = if choice.do_sample { draw(&scores, &mut rng) } else { greatest(&scores, 1)[0].0 };
        Ok((id, row.log_probability(id), rng))
    })?;
    for (&i, (id, log_probability, rng)) in open.iter().zip(chosen) {
        let text = &mut texts[i];
        text.ids.push(id);
        text.token_scores.push(log_probability);
        text.rng = rng;
    }
    Ok(())
}

/// A token by its probability.
fn draw(scores: &[f32], rng: &mut Rng) -> u32 {
    let probabilities = softmax(scores);
    let total: f64 = probabilities.iter().map(|&p| f64::from(p)).sum();
    let mut left = f64::from(rng.uniform()) * total;
    let mut last = 0;
    for (token, &probability) in probabilities.iter().enumerate().filter(|(_, p)| **p > 0.0) {
        last = token as u32;
        left -= f64::from(probability);
        if left < 0.0 {
            break;
        }
    }
    last
}

impl Text {
    fn last(&self) -> Token {
        Token {
            start: self.start,
            sequence: self.sequence,
            id: self.ids.last().copied().unwrap_or_default(),
            log_probability: self.token_scores.last().copied().unwrap_or_default(),
        }
    }

    fn ended(self, prompt: usize) -> Generated {
        let score = self.token_scores.iter().sum::<f32>() / self.token_scores.len().max(1) as f32;
        Generated {
            ids: self.ids[prompt..].to_vec(),
            token_scores: self.token_scores,
            score,
            finish: self.finish.unwrap_or(Finish::Length),
        }
    }
}
