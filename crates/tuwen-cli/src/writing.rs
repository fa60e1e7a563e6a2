//! Options of the verbs that write texts, and what comes of them for people and programs.

use clap::{Args, ValueEnum};
use serde::Serialize;
use tuwen::generate::{EarlyStopping, GenerationConfig};
use tuwen::{Error, WritingOptions, Written};

use crate::failure::Failure;
use crate::models::model_failure;

/// How texts are written. What is not given is as in the program that the model is of.
#[derive(Args)]
#[command(next_help_heading = "Writing")]
pub struct WritingArguments {
    /// Texts that are continued at the same time, of which the best are kept
    #[arg(long, visible_alias = "num-beams", value_name = "N")]
    beams: Option<usize>,
    /// Texts for each image [default: 1]
    #[arg(long, visible_alias = "num-return-sequences", value_name = "N")]
    num: Option<usize>,
    /// Most tokens of a text, those of the prompt included
    #[arg(long, value_name = "N", conflicts_with = "max_new_tokens")]
    max_length: Option<usize>,
    /// Most tokens of a text without the prompt
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Fewest tokens of a text, those of the prompt included
    #[arg(long, value_name = "N")]
    min_length: Option<usize>,
    /// Draw tokens by their probability; `--sample=false` where the model's files say so and it is not wanted
    #[arg(long, visible_alias = "do-sample", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sample: Option<bool>,
    /// Draw from the most probable tokens that have this probability together (nucleus sampling)
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
    /// Draw from so many of the most probable tokens [default: 50]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from tokens that are at least so many times as probable as the most probable one
    #[arg(long, value_name = "P")]
    min_p: Option<f32>,
    /// Draw with logits divided by this: below 1 for what is probable, above 1 for variety
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// What is drawn follows from this and the image
    #[arg(long, value_name = "SEED", default_value = "0")]
    seed: u64,
    /// Make tokens that occurred less probable by this factor
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f32>,
    /// So many tokens in a row occur only once
    #[arg(long, visible_alias = "no-repeat-ngram-size", value_name = "N")]
    no_repeat_ngram: Option<usize>,
    /// The score of a beam is divided by its length to this power
    #[arg(long, value_name = "X")]
    length_penalty: Option<f32>,
    /// When a search that has as many texts as beams ends
    #[arg(long, value_name = "WHEN")]
    early_stopping: Option<Early>,
    /// Texts end before this string; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Give every token with its log probability (with --json)
    #[arg(long)]
    scores: bool,
}

/// When a beam search ends.
#[derive(Clone, Copy, ValueEnum)]
enum Early {
    /// Where the best open beam would not be among the best texts if it ended now
    False,
    /// At once
    True,
    /// Where no beam can be among them any more
    Never,
}

/// A text with its score.
#[derive(Serialize)]
pub struct Text {
    text: String,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Vec<Token>>,
}

#[derive(Serialize)]
struct Token {
    id: u32,
    score: f32,
}

impl WritingArguments {
    /// Whether tokens are drawn.
    pub fn draws(&self) -> bool {
        self.sample == Some(true)
            || self.top_p.is_some()
            || self.top_k.is_some()
            || self.min_p.is_some()
            || self.temperature.is_some()
    }

    /// Settings of a program, with what was asked for in their place. `drawn` are those for texts that are drawn.
    pub fn over(&self, own: WritingOptions, drawn: impl FnOnce() -> WritingOptions) -> WritingOptions {
        let WritingOptions { generation, prompt, .. } = if self.draws() { drawn() } else { own };
        let own = generation;
        let drawn = self.draws() || (own.do_sample && self.sample.is_none());
        let num = self.num.unwrap_or(own.num_return_sequences);
        let lengths = match (self.max_new_tokens, self.max_length) {
            (None, None) => (own.max_new_tokens, own.max_length),
            given => given,
        };
        let generation = GenerationConfig {
            do_sample: drawn,
            // Several texts that are not drawn are those of as many beams.
            num_beams: self.beams.unwrap_or(match (self.draws(), drawn) {
                (true, _) => 1,
                (false, true) => own.num_beams,
                (false, false) => own.num_beams.max(num),
            }),
            num_return_sequences: num,
            max_new_tokens: lengths.0,
            max_length: lengths.1,
            min_length: self.min_length.unwrap_or(own.min_length),
            top_p: self.top_p.unwrap_or(own.top_p),
            top_k: self.top_k.unwrap_or(own.top_k),
            min_p: self.min_p.unwrap_or(own.min_p),
            temperature: self.temperature.unwrap_or(own.temperature),
            seed: self.seed,
            repetition_penalty: self.repetition_penalty.unwrap_or(own.repetition_penalty),
            no_repeat_ngram_size: self.no_repeat_ngram.unwrap_or(own.no_repeat_ngram_size),
            length_penalty: self.length_penalty.unwrap_or(own.length_penalty),
            early_stopping: self.early_stopping.map_or(own.early_stopping, Early::setting),
            ..own
        };
        WritingOptions { generation, prompt, stop: self.stop.clone() }
    }

    /// Texts as they are given.
    pub fn texts(&self, written: Vec<Written>) -> Vec<Text> {
        written.into_iter().map(|written| self.text(written)).collect()
    }

    fn text(&self, Written { text, generated }: Written) -> Text {
        let tokens = || {
            let tokens = generated.ids.iter().zip(&generated.token_scores);
            tokens.map(|(&id, &score)| Token { id, score }).collect()
        };
        Text { text, score: generated.score, tokens: self.scores.then(tokens) }
    }
}

impl Early {
    fn setting(self) -> EarlyStopping {
        match self {
            Self::False => EarlyStopping::False,
            Self::True => EarlyStopping::True,
            Self::Never => EarlyStopping::Never,
        }
    }
}

/// How an input and its texts look: in one line where there is one text.
pub fn shown(input: &str, texts: &[&Text]) -> String {
    match texts {
        [text] => format!("{input}: {}", text.text),
        _ => {
            let rows = texts.iter().map(|text| format!("\n{:9.4}  {}", text.score, text.text));
            std::iter::once(input.to_owned()).chain(rows).collect()
        }
    }
}

/// What stands in the way of writing.
pub fn writing_failure(error: Error) -> Failure {
    match error {
        Error::Generation(_) => Failure::usage(error).hint("see the options under Writing in --help"),
        error => model_failure(error),
    }
}
