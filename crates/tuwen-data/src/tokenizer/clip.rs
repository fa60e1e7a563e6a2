//! CLIP's tokenizer.

use std::fmt;
use std::sync::Arc;

use super::openai_vocabulary::openai_vocabulary;
use super::text::{Piece, split};
use super::vocabulary::{OPEN_CLIP_SPECIAL, OPENAI_SPECIAL, Vocabulary, merges_of};
use super::{Overflow, TokenBatch, TokenizerError, Truncated};

/// Whose program to do as. The three give plain English text the same ids and differ at its edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// OpenAI's `clip.tokenize`: text is repaired (ftfy), HTML references are resolved; pads with id 0.
    OpenAi,
    /// open_clip's `SimpleTokenizer`: as OpenAI's, but start and end are written `<start_of_text>` and
    /// `<end_of_text>`.
    OpenClip,
    /// transformers' `CLIPTokenizer`: text is only composed (NFC) and lower-cased; pads with the end token.
    HuggingFace,
}

impl Flavour {
    /// How start and end of a text are written in a text.
    fn special_strings(self) -> [&'static str; 2] {
        if self == Self::OpenClip { OPEN_CLIP_SPECIAL } else { OPENAI_SPECIAL }
    }
}

/// Turns texts into the token ids of a CLIP model and back. A clone shares the vocabulary.
#[derive(Clone)]
pub struct ClipTokenizer {
    pub(super) vocabulary: Arc<Vocabulary>,
    flavour: Flavour,
}

impl fmt::Debug for ClipTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClipTokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("flavour", &self.flavour)
            .finish_non_exhaustive()
    }
}

impl ClipTokenizer {
    /// OpenAI's vocabulary of 49,408 tokens with OpenAI's cleaning. It is part of the program; the first call makes
    /// it, later ones share it.
    pub fn openai() -> Self {
        Self { vocabulary: openai_vocabulary(), flavour: Flavour::OpenAi }
    }

    pub(super) fn new(vocabulary: Vocabulary, flavour: Flavour) -> Self {
        Self { vocabulary: Arc::new(vocabulary), flavour }
    }

    /// The same vocabulary used as another program does.
    #[must_use]
    pub fn with_flavour(&self, flavour: Flavour) -> Self {
        Self { flavour, ..self.clone() }
    }

    /// Whose program this one does as.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Whether both give every text the same ids, but for their flavours.
    pub fn same_vocabulary(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.vocabulary, &other.vocabulary);
        Arc::ptr_eq(ours, theirs)
            || (ours.tokens == theirs.tokens && merges_of(&ours.bpe) == merges_of(&theirs.bpe))
    }

    /// Number of tokens; their ids are 0 to this number less one.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.tokens.len()
    }

    /// Id of the start of a text.
    pub fn start_id(&self) -> u32 {
        self.vocabulary.start
    }

    /// Id of the end of a text.
    pub fn end_id(&self) -> u32 {
        self.vocabulary.end
    }

    /// Id that fills up a row of a batch.
    pub fn pad_id(&self) -> u32 {
        match self.flavour {
            Flavour::OpenAi | Flavour::OpenClip => 0,
            Flavour::HuggingFace => self.end_id(),
        }
    }

    /// The ids of a text, without start, end and padding.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        split(text, self.flavour, |piece| match piece {
            Piece::Start => ids.push(self.start_id()),
            Piece::End => ids.push(self.end_id()),
            Piece::Word(word) => self.vocabulary.encode_word(word, &mut ids),
        });
        ids
    }

    /// The ids of texts as rows of `context_length`: start, text, end, padding.
    ///
    /// # Errors
    /// A text that does not fit where `overflow` is [`Overflow::Error`]; a context below 2.
    pub fn encode_batch(
        &self,
        texts: &[impl AsRef<str>],
        context_length: usize,
        overflow: Overflow,
    ) -> Result<TokenBatch, TokenizerError> {
        let room = context_length.checked_sub(2).ok_or(TokenizerError::ContextTooShort(context_length))?;
        let mut batch = TokenBatch { context_length, ..TokenBatch::default() };
        for (text, string) in texts.iter().enumerate() {
            let ids = self.encode(string.as_ref());
            let tokens = ids.len() + 2;
            if tokens > context_length {
                match overflow {
                    Overflow::Error => return Err(TokenizerError::TooLong { text, tokens, context_length }),
                    Overflow::Truncate => batch.truncated.push(Truncated { text, tokens }),
                }
            }
            let row_end = (text + 1) * context_length;
            batch.ids.push(self.start_id());
            batch.ids.extend(ids.into_iter().take(room));
            batch.ids.push(self.end_id());
            batch.attention_mask.resize(batch.ids.len(), true);
            batch.ids.resize(row_end, self.pad_id());
            batch.attention_mask.resize(row_end, false);
        }
        Ok(batch)
    }

    /// The text of ids, a space after each word; start and end are written out. Ids beyond the vocabulary are left
    /// out, and bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let [start, end] = self.flavour.special_strings();
        Vocabulary::decode(ids.iter().filter_map(|&id| match id {
            id if id == self.start_id() => Some(start),
            id if id == self.end_id() => Some(end),
            id => self.vocabulary.tokens.get(id as usize).map(String::as_str),
        }))
    }
}
