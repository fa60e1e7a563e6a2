//! Writing text token by token: which tokens are chosen, whatever network tells how likely they are.
//!
//! A network takes part as [`Sequences`]; [`GenerationConfig`] says how tokens are chosen, in the words of transformers'
//! `generate()`. A text never depends on what is written beside it: its randomness comes from the seed and its own number.
//! References: transformers `generation/{utils,logits_process}.py`, and of version 4.15 `generation_beam_search.py`.

mod beams;
mod config;
mod defaults;
mod hypotheses;
mod processors;
mod rows;
mod sampling;
mod stop;
mod values;
mod warpers;

pub use config::{BeamRules, EarlyStopping, GenerationConfig, GenerationError};
pub use defaults::{GenerationDefaults, GenerationLimits};
pub use processors::Processor;
pub use stop::StopStrings;

use tuwen_tensor::Tensor;

use crate::TokenIds;

/// What generation needs of a network: rows of tokens that go on, and memory of what was read.
pub trait Sequences {
    /// Reads the next tokens `[rows, new tokens]` of all rows: logits `[rows, vocab_size]` of the token after the last.
    fn step(&mut self, tokens: &TokenIds) -> Tensor;

    /// Goes on with some of the rows, by their numbers. Those that write about the same thing stand together.
    fn select(&mut self, rows: &[u32]);

    /// Most tokens that a row may have.
    fn max_length(&self) -> usize;
}

/// Where texts about one thing begin.
#[derive(Clone, Debug)]
pub struct Start {
    /// Tokens that stand before what is written: at least one, and as many for each thing.
    pub prompt: Vec<u32>,
    /// What its randomness is drawn for, beside the seed.
    pub stream: u64,
}

/// A text that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// Its tokens, without the prompt; the end token is among them where it was written.
    pub ids: Vec<u32>,
    /// Logarithm of the probability that the network gave each of them.
    pub token_scores: Vec<f32>,
    /// Of beam search its score, as the reference has it; else the mean of the tokens' scores.
    pub score: f32,
    /// Why it ends.
    pub finish: Finish,
}

/// Why a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// An end token was written.
    EndToken,
    /// It may be no longer.
    Length,
    /// The listener ended it.
    Stopped,
}

/// A token that was written and stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    /// Number of the thing that is written about.
    pub start: usize,
    /// Number of the text about it.
    pub sequence: usize,
    /// The token.
    pub id: u32,
    /// Logarithm of its probability.
    pub log_probability: f32,
}

/// Hears of tokens while texts are written, and may end texts.
pub trait Listener {
    /// Whether a text ends with these tokens, of which the last is new; the prompt is not among them.
    fn ends(&self, _ids: &[u32]) -> bool {
        false
    }

    /// A token stays. Beams are open until a search ends: then all tokens of its texts come one after another.
    fn token(&mut self, _token: Token) {}
}

/// Hears nothing and ends nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Listener for Silent {}

/// Writes about things, for each of which `sequences` has one row: `num_return_sequences` texts for each, the best first.
///
/// # Errors
/// A configuration that contradicts itself, prompts of different lengths or as long as texts may be, and a network whose
/// logits are no numbers.
pub fn generate(
    sequences: &mut dyn Sequences,
    starts: &[Start],
    config: &GenerationConfig,
    listener: &mut dyn Listener,
) -> Result<Vec<Vec<Generated>>, GenerationError> {
    let Some(first) = starts.first() else { return Ok(Vec::new()) };
    let prompt = first.prompt.len();
    if prompt == 0 || starts.iter().any(|start| start.prompt.len() != prompt) {
        return Err(GenerationError::Prompts);
    }
    config.check(prompt, sequences.max_length())?;
    match config.num_beams {
        1 => sampling::generate(sequences, starts, config, listener),
        _ => beams::generate(sequences, starts, config, listener),
    }
}

/// The prompts, side by side.
fn prompts(starts: &[Start]) -> TokenIds {
    let ids = starts.iter().flat_map(|start| start.prompt.iter().copied()).collect();
    TokenIds { ids, length: starts[0].prompt.len(), attention_mask: None }
}

/// One more token of each row.
fn next_tokens(ids: Vec<u32>) -> TokenIds {
    TokenIds { ids, length: 1, attention_mask: None }
}

/// Why a text ends with its last token, if it does. `ids` begin with `prompt` tokens that were not written.
fn finish(ids: &[u32], prompt: usize, config: &GenerationConfig, listener: &dyn Listener) -> Option<Finish> {
    let last = ids.last()?;
    if config.eos_token_ids.contains(last) {
        Some(Finish::EndToken)
    } else if listener.ends(&ids[prompt..]) {
        Some(Finish::Stopped)
    } else {
        (ids.len() >= config.max_length_after(prompt)).then_some(Finish::Length)
    }
}
