//! What is done to the scores of a step before tokens are compared or drawn (transformers `logits_process.py`).

use super::warpers;

/// A change of the scores of all tokens, logits or their log softmax.
#[derive(Clone, Debug, PartialEq)]
pub enum Processor {
    /// Divides scores of tokens that occurred, or multiplies them where they are negative.
    RepetitionPenalty(f32),
    /// Bars what would make so many tokens in a row occur a second time.
    NoRepeatNgram(usize),
    /// Bars what would complete one of these.
    BadWords(Vec<Vec<u32>>),
    /// Bars the end of texts that are shorter.
    MinLength {
        /// Tokens, prompt included.
        length: usize,
        /// Tokens that end a text.
        eos: Vec<u32>,
    },
    /// Bars everything but one token where so many stand before it.
    Forced {
        /// Tokens, prompt included.
        at: usize,
        /// The token.
        id: u32,
    },
    /// Bars tokens.
    Suppress(Vec<u32>),
    /// Divides scores.
    Temperature(f32),
    /// Keeps the `k` greatest, and all that are equal to the last of them.
    TopK {
        /// How many.
        k: usize,
        /// How many at least.
        min_kept: usize,
    },
    /// Keeps the fewest of the greatest whose probability is `p` together.
    TopP {
        /// The probability.
        p: f32,
        /// How many at least.
        min_kept: usize,
    },
    /// Keeps those that are at least `p` times as probable as the most probable.
    MinP {
        /// The part.
        p: f32,
        /// How many at least.
        min_kept: usize,
    },
    /// Keeps the fewest of those nearest to the expected surprise whose probability is `p` together.
    TypicalP {
        /// The probability.
        p: f32,
        /// How many at least.
        min_kept: usize,
    },
}

impl Processor {
    /// Changes the scores of the token after `ids`; what is barred becomes minus infinity.
    pub fn apply(&self, ids: &[u32], scores: &mut [f32]) {
        match *self {
            Self::RepetitionPenalty(penalty) => penalize(penalty, ids, scores),
            Self::NoRepeatNgram(size) => bar_repeated(size, ids, scores),
            Self::BadWords(ref words) => words.iter().for_each(|word| bar_last(word, ids, scores)),
            Self::MinLength { length, ref eos } => {
                if ids.len() < length {
                    bar(eos, scores);
                }
            }
            Self::Forced { at, id } => {
                if ids.len() == at {
                    force(id, scores);
                }
            }
            Self::Suppress(ref tokens) => bar(tokens, scores),
            Self::Temperature(temperature) => scores.iter_mut().for_each(|score| *score /= temperature),
            Self::TopK { k, min_kept } => warpers::top_k(k.max(min_kept), scores),
            Self::TopP { p, min_kept } => warpers::top_p(p, min_kept, scores),
            Self::MinP { p, min_kept } => warpers::min_p(p, min_kept, scores),
            Self::TypicalP { p, min_kept } => warpers::typical_p(p, min_kept, scores),
        }
    }
}

fn penalize(penalty: f32, ids: &[u32], scores: &mut [f32]) {
    for (i, &id) in ids.iter().enumerate() {
        if ids[..i].contains(&id) {
            continue;
        }
        if let Some(score) = scores.get_mut(id as usize) {
            *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
        }
    }
}

fn bar_repeated(size: usize, ids: &[u32], scores: &mut [f32]) {
    let Some(begun) = (size - 1 <= ids.len()).then(|| &ids[ids.len() + 1 - size..]) else { return };
    for ngram in ids.windows(size) {
        if ngram.starts_with(begun) {
            bar(&ngram[size - 1..], scores);
        }
    }
}

fn bar_last(word: &[u32], ids: &[u32], scores: &mut [f32]) {
    if let Some((last, before)) = word.split_last()
        && ids.ends_with(before)
    {
        bar(&[*last], scores);
    }
}

fn bar(tokens: &[u32], scores: &mut [f32]) {
    for &token in tokens {
        if let Some(score) = scores.get_mut(token as usize) {
            *score = f32::NEG_INFINITY;
        }
    }
}

fn force(token: u32, scores: &mut [f32]) {
    scores.fill(f32::NEG_INFINITY);
    if let Some(score) = scores.get_mut(token as usize) {
        *score = 0.0;
    }
}
