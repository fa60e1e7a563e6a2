//! BERT's WordPiece tokenizer, as BLIP, ALBEF and BLIP-2 use it.
//!
//! References: transformers 4.15 `models/bert/tokenization_bert.py` (lower-casing) and `tokenization_utils.py`, for
//! [`BertFlavour::HuggingFace`] the `tokenizers` library's `BertNormalizer` and `BertPreTokenizer`.

mod load;
mod subset;
mod text;
mod wordpiece;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::{Overflow, TokenBatch, TokenizerError, Truncated};
use text::Pieces;

/// Tokens that stand for themselves wherever they are written in a text.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Starts what BLIP's decoder writes.
pub const DECODER_START: &str = "[DEC]";
/// Starts what BLIP's image-grounded encoder reads.
pub const ENCODER_START: &str = "[ENC]";

/// Whose program to do as. They differ for code points that are not assigned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BertFlavour {
    /// transformers' tokenizer in Python, which the original programs use: drops code points that are not assigned.
    #[default]
    Original,
    /// The `tokenizers` library, which transformers uses now: they make a word unknown.
    HuggingFace,
}

/// How long the rows of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// As long as the longest text.
    Longest,
    /// As long as the limit.
    Limit,
}

/// Turns texts into the token ids of a BERT and back. A clone shares the vocabulary.
#[derive(Clone)]
pub struct BertTokenizer {
    vocabulary: Arc<Vocabulary>,
    flavour: BertFlavour,
}

struct Vocabulary {
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
    /// Ids that stand for no text.
    special: Vec<u32>,
    unknown: u32,
    start: u32,
    end: u32,
    pad: u32,
}

impl fmt::Debug for BertTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BertTokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("flavour", &self.flavour)
            .finish_non_exhaustive()
    }
}

impl BertTokenizer {
    /// Of tokens in the order of their ids.
    fn new(tokens: Vec<String>) -> Result<Self, String> {
        let ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
        let id = |token: &str| ids.get(token).copied().ok_or_else(|| format!("token {token:?} is missing"));
        let special = SPECIAL.iter().map(|token| id(token)).collect::<Result<Vec<_>, _>>()?;
        let [pad, unknown, start, end] = [special[0], special[1], special[2], special[3]];
        let vocabulary = Vocabulary { tokens, ids, special, unknown, start, end, pad };
        Ok(Self { vocabulary: Arc::new(vocabulary), flavour: BertFlavour::default() })
    }

    /// With `[DEC]` and `[ENC]` as the next two ids, unless the vocabulary has them: BLIP's `init_tokenizer`.
    #[must_use]
    pub fn for_blip(self) -> Self {
        self.with_special(&[DECODER_START, ENCODER_START])
    }

    /// With tokens behind the vocabulary that stand for themselves wherever they are written.
    #[must_use]
    pub fn with_special(self, added: &[&str]) -> Self {
        let Self { vocabulary, flavour } = self;
        let mut vocabulary = Arc::unwrap_or_clone(vocabulary);
        for &token in added {
            let next = vocabulary.tokens.len() as u32;
            let id = *vocabulary.ids.entry(token.to_owned()).or_insert(next);
            if id == next {
                vocabulary.tokens.push(token.to_owned());
            }
            if !vocabulary.special.contains(&id) {
                vocabulary.special.push(id);
            }
        }
        Self { vocabulary: Arc::new(vocabulary), flavour }
    }

    /// The text of a `vocab.txt`, a token a line, without what [`BertTokenizer::for_blip`] puts behind it.
    pub fn to_vocabulary(&self) -> String {
        let tokens = &self.vocabulary.tokens;
        let added = [DECODER_START, ENCODER_START];
        let own = tokens.strip_suffix(&added.map(str::to_owned)).unwrap_or(tokens);
        own.iter().flat_map(|token| [token.as_str(), "\n"]).collect()
    }

    /// The same vocabulary used as another program does.
    #[must_use]
    pub fn with_flavour(&self, flavour: BertFlavour) -> Self {
        Self { flavour, ..self.clone() }
    }

    /// The text of a `vocab.txt`: a token a line.
    pub fn vocabulary(&self) -> String {
        self.vocabulary.tokens.iter().flat_map(|token| [token.as_str(), "\n"]).collect()
    }

    /// Number of tokens; their ids are 0 to this number less one.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.tokens.len()
    }

    /// The id of a token as it stands in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.vocabulary.ids.get(token).copied()
    }

    /// The token of an id as it stands in the vocabulary.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.vocabulary.tokens.get(id as usize).map(String::as_str)
    }

    /// Id of `[CLS]`, the start of a text.
    pub fn start_id(&self) -> u32 {
        self.vocabulary.start
    }

    /// Id of `[SEP]`, the end of a text.
    pub fn end_id(&self) -> u32 {
        self.vocabulary.end
    }

    /// Id that fills up a row of a batch.
    pub fn pad_id(&self) -> u32 {
        self.vocabulary.pad
    }

    /// The ids of a text, without start, end and padding.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        for piece in Pieces::new(text, &self.vocabulary.special_tokens()) {
            match piece {
                text::Piece::Special(token) => ids.extend(self.id(token)),
                text::Piece::Text(text) => text::words(text, self.flavour, |word| {
                    wordpiece::encode(word, &self.vocabulary.ids, self.vocabulary.unknown, &mut ids);
                }),
            }
        }
        ids
    }

    /// Whether a text has words that no tokens of the vocabulary make.
    pub fn has_unknown(&self, text: &str) -> bool {
        self.encode(text).contains(&self.vocabulary.unknown)
    }

    /// The ids of texts as rows: `[CLS]`, text, `[SEP]`, padding. No row is longer than `limit`.
    ///
    /// # Errors
    /// A text that does not fit where `overflow` is [`Overflow::Error`]; a limit below 2.
    pub fn encode_batch(
        &self,
        texts: &[impl AsRef<str>],
        limit: usize,
        padding: Padding,
        overflow: Overflow,
    ) -> Result<TokenBatch, TokenizerError> {
        let room = limit.checked_sub(2).ok_or(TokenizerError::ContextTooShort(limit))?;
        let mut rows = Vec::with_capacity(texts.len());
        let mut truncated = Vec::new();
        for (text, string) in texts.iter().enumerate() {
            let mut ids = self.encode(string.as_ref());
            let tokens = ids.len() + 2;
            if tokens > limit {
                match overflow {
                    Overflow::Error => {
                        return Err(TokenizerError::TooLong { text, tokens, context_length: limit });
                    }
                    Overflow::Truncate => truncated.push(Truncated { text, tokens }),
                }
            }
            ids.truncate(room);
            ids.insert(0, self.start_id());
            ids.push(self.end_id());
            rows.push(ids);
        }
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let context_length = if padding == Padding::Longest { longest } else { limit };
        let mut batch = TokenBatch { context_length, truncated, ..TokenBatch::default() };
        for row in rows {
            let end = batch.ids.len() + context_length;
            batch.ids.extend(row);
            batch.attention_mask.resize(batch.ids.len(), true);
            batch.ids.resize(end, self.pad_id());
            batch.attention_mask.resize(end, false);
        }
        Ok(batch)
    }

    /// The text of ids, without special tokens and ids beyond the vocabulary; spaces before punctuation and in English
    /// contractions are taken out, as the original programs do.
    pub fn decode(&self, ids: &[u32]) -> String {
        let plain = ids.iter().filter(|id| !self.vocabulary.special.contains(id));
        wordpiece::decode(plain.filter_map(|&id| self.vocabulary.tokens.get(id as usize)))
    }
}

impl Vocabulary {
    fn special_tokens(&self) -> Vec<&str> {
        self.special.iter().map(|&id| self.tokens[id as usize].as_str()).collect()
    }
}

impl Clone for Vocabulary {
    fn clone(&self) -> Self {
        Self { tokens: self.tokens.clone(), ids: self.ids.clone(), special: self.special.clone(), ..*self }
    }
}
