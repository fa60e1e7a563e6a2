//! A checked vocabulary with its merges.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

use super::VocabularyError;
use super::symbols::{END_OF_WORD, byte_tokens, symbols_of, token_bytes};

/// What OpenAI and Hugging Face call start and end of a text.
pub(super) const OPENAI_SPECIAL: [&str; 2] = ["<|startoftext|>", "<|endoftext|>"];
/// What open_clip calls them.
pub(super) const OPEN_CLIP_SPECIAL: [&str; 2] = ["<start_of_text>", "<end_of_text>"];

/// A vocabulary in which every byte has a token, so that every text can be encoded.
pub(super) struct Vocabulary {
    /// Encodes words.
    pub bpe: BPE,
    /// In the order of their ids. Start and end have OpenAI's names, whatever they were called.
    pub tokens: Vec<String>,
    /// Id of the start of a text.
    pub start: u32,
    /// Id of the end of a text.
    pub end: u32,
}

impl Vocabulary {
    /// Checks everything that [`BPE`] relies on but does not check itself (it panics or drops characters).
    ///
    /// `merges` are in the order of their ranks.
    pub fn new(
        mut ids: HashMap<String, u32>,
        merges: Vec<(String, String)>,
    ) -> Result<Self, VocabularyError> {
        let mut special = |name: &str, other: &str| {
            let id = ids.remove(name).or_else(|| ids.remove(other));
            let id = id.ok_or_else(|| VocabularyError::MissingToken(name.to_owned()))?;
            ids.insert(name.to_owned(), id);
            Ok::<_, VocabularyError>(id)
        };
        let start = special(OPENAI_SPECIAL[0], OPEN_CLIP_SPECIAL[0])?;
        let end = special(OPENAI_SPECIAL[1], OPEN_CLIP_SPECIAL[1])?;
        if let Some(missing) = byte_tokens().into_iter().find(|token| !ids.contains_key(token)) {
            return Err(VocabularyError::MissingToken(missing));
        }
        let tokens = tokens_by_id(&ids)?;
        check_merges(&ids, &merges)?;
        let bpe = BPE::builder()
            .vocab_and_merges(ids.into_iter().collect::<Vocab>(), merges)
            .end_of_word_suffix(END_OF_WORD.to_owned())
            .build()
            .map_err(|e| VocabularyError::Refused(e.to_string()))?;
        Ok(Self { bpe, tokens, start, end })
    }

    /// Appends the ids of `word`, which is encoded on its own.
    pub fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        let tokens = self
            .bpe
            .tokenize(&symbols_of(word))
            .expect("only an unknown token could fail, and there is none");
        ids.extend(tokens.into_iter().map(|token| token.id));
    }

    /// The text of `tokens` with a space after each word; bytes that are not UTF-8 become U+FFFD.
    pub fn decode<'a>(tokens: impl Iterator<Item = &'a str>) -> String {
        let bytes: Vec<u8> = tokens.flat_map(token_bytes).collect();
        String::from_utf8_lossy(&bytes).replace(END_OF_WORD, " ")
    }
}

/// The merges of a model in the order of their ranks, which it tells only when it is serialised.
pub(super) fn merges_of(bpe: &BPE) -> Vec<(String, String)> {
    #[derive(Deserialize)]
    struct Merges {
        merges: Vec<(String, String)>,
    }
    let merges = serde_json::to_value(bpe).and_then(serde_json::from_value);
    merges.map(|Merges { merges }| merges).expect("a model becomes a map that holds its merges")
}

/// Turns the ids around; they must be 0 to n-1.
fn tokens_by_id(ids: &HashMap<String, u32>) -> Result<Vec<String>, VocabularyError> {
    let size = ids.len();
    let mut tokens = vec![None; size];
    for (token, &id) in ids {
        let place = tokens.get_mut(id as usize).ok_or_else(|| VocabularyError::IdTooLarge {
            token: token.clone(),
            id,
            size,
        })?;
        if let Some(first) = place.replace(token) {
            return Err(VocabularyError::DuplicateId { id, first: first.clone(), second: token.clone() });
        }
    }
    // As many different ids below `size` as there are tokens leave no gap.
    Ok(tokens.into_iter().flatten().cloned().collect())
}

fn check_merges(ids: &HashMap<String, u32>, merges: &[(String, String)]) -> Result<(), VocabularyError> {
    let mut seen = HashSet::with_capacity(merges.len());
    for (rank, pair @ (left, right)) in merges.iter().enumerate() {
        let merged = format!("{left}{right}");
        if let Some(missing) = [left, right, &merged].into_iter().find(|token| !ids.contains_key(*token)) {
            let missing = missing.clone();
            return Err(VocabularyError::UnknownInMerge { rank, merge: format!("{left} {right}"), missing });
        }
        if !seen.insert(pair) {
            return Err(VocabularyError::DuplicateMerge { rank, merge: format!("{left} {right}") });
        }
    }
    Ok(())
}
