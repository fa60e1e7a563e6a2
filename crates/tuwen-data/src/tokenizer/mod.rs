//! Tokenizers: text to token ids and back.

mod bert;
mod cleaning;
mod clip;
mod ftfy;
mod load;
mod openai_vocabulary;
mod save;
mod symbols;
mod text;
mod train;
mod vocabulary;

use std::path::PathBuf;

pub use bert::{BertFlavour, BertTokenizer, DECODER_START, ENCODER_START, Padding};
pub use cleaning::Cleaning;
pub use clip::{ClipTokenizer, Flavour};

/// What to do with a text that has more tokens than the context holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Fail with [`TokenizerError::TooLong`], as OpenAI's `tokenize` does by default.
    Error,
    /// Keep the first tokens and let the end token be the last, as open_clip and Hugging Face do.
    Truncate,
}

/// Token ids of several texts, padded to one length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenBatch {
    /// `[texts, context_length]`, row by row: start token, text, end token, padding.
    pub ids: Vec<u32>,
    /// `[texts, context_length]`: true for a token of the text, false for padding.
    pub attention_mask: Vec<bool>,
    /// The texts that were cut.
    pub truncated: Vec<Truncated>,
    /// Ids in a row.
    pub context_length: usize,
}

/// A text that was cut to the context length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// Its index in the batch.
    pub text: usize,
    /// How many tokens it had, start and end token included.
    pub tokens: usize,
}

/// Why a tokenizer could not be read, written, learnt or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// None of the files that describe a CLIP tokenizer is there.
    #[error("no tokenizer.json, vocab.json with merges.txt, or bpe_simple_vocab_16e6.txt(.gz) in {}", .0.display())]
    NotFound(PathBuf),
    /// Neither of the files that describe a BERT tokenizer is there.
    #[error("no vocab.txt or tokenizer.json in {}", .0.display())]
    NoVocabulary(PathBuf),
    /// Vocabulary and merges do not make a byte-pair tokenizer.
    #[error("{0}")]
    Vocabulary(#[from] VocabularyError),
    /// A text has more tokens than the context holds.
    #[error(
        "text {text} has {tokens} tokens, start and end token included; the context holds {context_length}"
    )]
    TooLong {
        /// Its index in the batch.
        text: usize,
        /// How many tokens it has.
        tokens: usize,
        /// How many fit.
        context_length: usize,
    },
    /// More text to learn from than can be counted.
    #[error("{0} bytes of words are too much to learn from; take a sample of at most 2^31 bytes")]
    TooMuchText(u64),
    /// The context has no room for the start and the end token.
    #[error("a context of {0} tokens is too short: start and end token alone need 2")]
    ContextTooShort(usize),
}

/// Why vocabulary and merges do not make a byte-pair tokenizer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    /// An id is not below the number of tokens.
    #[error("token {token:?} has id {id}; {size} tokens need the ids 0 to {}", size - 1)]
    IdTooLarge {
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// Number of tokens.
        size: usize,
    },
    /// An id is given to two tokens.
    #[error("tokens {first:?} and {second:?} both have id {id}")]
    DuplicateId {
        /// The id.
        id: u32,
        /// One token.
        first: String,
        /// The other token.
        second: String,
    },
    /// A token that every vocabulary needs is not there.
    #[error(
        "token {0:?} is missing: the vocabulary needs all 256 byte symbols, with and without `</w>`, and the start and end tokens"
    )]
    MissingToken(String),
    /// A merge names a token that is not in the vocabulary, or makes one.
    #[error("merge {rank} ({merge:?}): token {missing:?} is not in the vocabulary")]
    UnknownInMerge {
        /// Position of the merge, from 0.
        rank: usize,
        /// Left and right token with a space between them.
        merge: String,
        /// The token that is missing.
        missing: String,
    },
    /// A pair is merged twice.
    #[error("merge {rank} ({merge:?}) is there a second time")]
    DuplicateMerge {
        /// Position of the second one, from 0.
        rank: usize,
        /// Left and right token with a space between them.
        merge: String,
    },
    /// A vocabulary of this size cannot hold the byte symbols and the start and end tokens.
    #[error("a vocabulary of {0} tokens is too small: byte symbols, start and end token need 514")]
    TooSmall(usize),
    /// The byte-pair model does not take it.
    #[error("{0}")]
    Refused(String),
}
