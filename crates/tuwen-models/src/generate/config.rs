//! How tokens are chosen, in the words of transformers' `GenerationConfig`.

use super::Processor;

/// New tokens unless a length is given.
const NEW_TOKENS: usize = 20;

/// How texts are written. The default is that of transformers: the most probable token, again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationConfig {
    /// Most tokens of a text, prompt included.
    pub max_length: Option<usize>,
    /// Most tokens without the prompt; goes before `max_length`. 20 where neither is given.
    pub max_new_tokens: Option<usize>,
    /// Tokens, prompt included, before which no text ends.
    pub min_length: usize,
    /// The same without the prompt.
    pub min_new_tokens: usize,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<u32>,

    /// Whether tokens are drawn by their probability.
    pub do_sample: bool,
    /// Logits are divided by it before tokens are drawn.
    pub temperature: f32,
    /// Draws from so many of the most probable tokens; 0 for all.
    pub top_k: usize,
    /// Draws from the fewest of the most probable tokens whose probability is as much together.
    pub top_p: f32,
    /// Draws from tokens that are at least so many times as probable as the most probable one; 0 for all.
    pub min_p: f32,
    /// Draws from tokens about as surprising as is to be expected, whose probability is as much together.
    pub typical_p: f32,
    /// What everything that is drawn comes from.
    pub seed: u64,

    /// Texts that are continued at the same time, of which the best are kept; 1 for no such search.
    pub num_beams: usize,
    /// The score of a beam is divided by its length to this power.
    pub length_penalty: f32,
    /// When a beam search ends.
    pub early_stopping: EarlyStopping,
    /// Whose beam search it is.
    pub beam_rules: BeamRules,
    /// Texts for each thing that is written about.
    pub num_return_sequences: usize,

    /// Scores of tokens that occurred are divided by it, or multiplied where they are negative.
    pub repetition_penalty: f32,
    /// So many tokens in a row occur only once; 0 for no such limit.
    pub no_repeat_ngram_size: usize,
    /// Tokens in a row that never occur.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// Tokens that never occur.
    pub suppress_tokens: Vec<u32>,
    /// Tokens that every text begins with, after the prompt.
    pub forced_prefix: Vec<u32>,
    /// The last token of a text that is as long as may be.
    pub forced_eos_token_id: Option<u32>,
}

/// When a beam search ends that has as many finished texts as beams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// Where the best open beam would not be among them if it ended now.
    #[default]
    False,
    /// At once.
    True,
    /// Where no beam can be among them any more, however long it becomes.
    Never,
}

/// Whose beam search it is. They differ in what a score is divided by, and so in what is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BeamRules {
    /// Version 4.15, which Salesforce's programs use: the length with the prompt and without the end token.
    Transformers4,
    /// Version 5: the tokens that were written, the end token included.
    #[default]
    Transformers5,
}

/// Why nothing was written. Every message is one line.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GenerationError {
    /// A setting outside its range.
    #[error("{name} is {value}, expected {expected}")]
    Setting {
        /// Its name in [`GenerationConfig`].
        name: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// Settings that only a draw or a search could satisfy.
    #[error("{texts} different texts of each are wanted: draw them (do_sample) or search with as many beams")]
    OneText {
        /// Texts that are wanted.
        texts: usize,
    },
    /// Prompts that are not of one length.
    #[error("prompts that are continued together have no tokens, or different numbers of them")]
    Prompts,
    /// Logits that are not numbers.
    #[error(
        "the network's logits are not finite numbers: its weights are damaged, or too large for its precision"
    )]
    NotFinite,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self {
            max_length: None,
            max_new_tokens: None,
            min_length: 0,
            min_new_tokens: 0,
            eos_token_ids: Vec::new(),
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            seed: 0,
            num_beams: 1,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::default(),
            beam_rules: BeamRules::default(),
            num_return_sequences: 1,
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            bad_words_ids: Vec::new(),
            suppress_tokens: Vec::new(),
            forced_prefix: Vec::new(),
            forced_eos_token_id: None,
        }
    }
}

impl GenerationConfig {
    /// Most tokens of a text with a prompt of so many, which are counted.
    pub fn max_length_after(&self, prompt: usize) -> usize {
        match (self.max_new_tokens, self.max_length) {
            (Some(new), _) => prompt.saturating_add(new),
            (None, Some(length)) => length,
            (None, None) => prompt + NEW_TOKENS,
        }
    }

    /// Checks the settings for prompts of so many tokens and a network that reads at most `longest`.
    ///
    /// # Errors
    /// The first setting that makes no sense.
    pub fn check(&self, prompt: usize, longest: usize) -> Result<(), GenerationError> {
        let setting = |name, value: String, expected: String, holds: bool| {
            if holds { Ok(()) } else { Err(GenerationError::Setting { name, value, expected }) }
        };
        let number = |name, value: f32, expected: &str, holds: bool| {
            setting(name, value.to_string(), expected.to_owned(), value.is_finite() && holds)
        };
        let Self { temperature, top_p, min_p, typical_p, repetition_penalty, length_penalty, .. } = *self;
        let fraction = |value: f32| value > 0.0 && value <= 1.0;
        number("temperature", temperature, "more than 0", temperature > 0.0)?;
        number("top_p", top_p, "more than 0 and at most 1", fraction(top_p))?;
        number("min_p", min_p, "0 to 1", (0.0..=1.0).contains(&min_p))?;
        number("typical_p", typical_p, "more than 0 and at most 1", fraction(typical_p))?;
        number("repetition_penalty", repetition_penalty, "more than 0", repetition_penalty > 0.0)?;
        number("length_penalty", length_penalty, "a number", true)?;
        let (beams, texts) = (self.num_beams, self.num_return_sequences);
        setting("num_beams", beams.to_string(), "at least 1".into(), beams > 0)?;
        setting("num_return_sequences", texts.to_string(), "at least 1".into(), texts > 0)?;
        let searches = beams > 1;
        let as_many = format!("at most num_beams, which is {beams}");
        setting("num_return_sequences", texts.to_string(), as_many, !searches || texts <= beams)?;
        if texts > 1 && !searches && !self.do_sample {
            return Err(GenerationError::OneText { texts });
        }
        let length = self.max_length_after(prompt);
        let range = format!("more than the {prompt} tokens of the prompt and at most {longest}");
        setting("max_length", length.to_string(), range, (prompt + 1..=longest).contains(&length))?;
        let least = self.min_length_after(prompt);
        let range = format!("no more tokens than max_length, which is {length}");
        setting("min_length", least.to_string(), range, least <= length)
    }

    fn min_length_after(&self, prompt: usize) -> usize {
        let new = if self.min_new_tokens > 0 { prompt.saturating_add(self.min_new_tokens) } else { 0 };
        self.min_length.max(new)
    }

    /// What is done to the scores of every step before tokens are compared or drawn, for a prompt of so many tokens.
    pub fn processors(&self, prompt: usize) -> Vec<Processor> {
        let mut chain = Vec::new();
        let mut add = |wanted: bool, processor: Processor| {
            if wanted {
                chain.push(processor);
            }
        };
        let (penalty, size) = (self.repetition_penalty, self.no_repeat_ngram_size);
        add((penalty - 1.0).abs() > 0.0, Processor::RepetitionPenalty(penalty));
        add(size > 0, Processor::NoRepeatNgram(size));
        let words: Vec<Vec<u32>> =
            self.bad_words_ids.iter().filter(|word| !self.is_end(word)).cloned().collect();
        add(!words.is_empty(), Processor::BadWords(words));
        let (length, eos) = (self.min_length_after(prompt), &self.eos_token_ids);
        add(length > 0 && !eos.is_empty(), Processor::MinLength { length, eos: eos.clone() });
        for (i, &id) in self.forced_prefix.iter().enumerate() {
            add(true, Processor::Forced { at: prompt + i, id });
        }
        if let Some(id) = self.forced_eos_token_id {
            add(true, Processor::Forced { at: self.max_length_after(prompt).saturating_sub(1), id });
        }
        add(!self.suppress_tokens.is_empty(), Processor::Suppress(self.suppress_tokens.clone()));
        chain
    }

    /// What is done to them besides before tokens are drawn; nothing where none are.
    pub fn warpers(&self) -> Vec<Processor> {
        let mut chain = Vec::new();
        let mut add = |wanted: bool, processor: Processor| {
            if wanted && self.do_sample {
                chain.push(processor);
            }
        };
        // Beams that are drawn need something to go on with beside the end.
        let min_kept = if self.num_beams > 1 { self.eos_token_ids.len() + 1 } else { 1 };
        add((self.temperature - 1.0).abs() > 0.0, Processor::Temperature(self.temperature));
        add(self.top_k > 0, Processor::TopK { k: self.top_k, min_kept });
        add(self.top_p < 1.0, Processor::TopP { p: self.top_p, min_kept });
        add(self.min_p > 0.0, Processor::MinP { p: self.min_p, min_kept });
        add(self.typical_p < 1.0, Processor::TypicalP { p: self.typical_p, min_kept });
        chain
    }

    fn is_end(&self, word: &[u32]) -> bool {
        word.len() == 1 && self.eos_token_ids.contains(&word[0])
    }
}
