//! Learning a vocabulary of CLIP's kind from texts.

use std::collections::HashMap;

use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, BpeTrainer};

use super::symbols::{END_OF_WORD, byte_tokens, symbols_of};
use super::text::{Piece, split};
use super::vocabulary::{OPENAI_SPECIAL, Vocabulary, merges_of};
use super::{ClipTokenizer, Flavour, TokenizerError, VocabularyError};

/// A pair of tokens is merged only if it occurs at least as often; a pair seen once tells nothing.
const MIN_FREQUENCY: u64 = 2;

/// Longer words (in bytes) are left out: they are no words, and the trainer takes quadratic time for them.
const MAX_WORD: usize = 256;

impl ClipTokenizer {
    /// Learns a byte-pair vocabulary from `texts`, cleaned and split as OpenAI does: the bytes, then the merged
    /// tokens from the most frequent on, then start and end. The same texts give the same vocabulary.
    ///
    /// It is smaller than `vocab_size` if the texts hold too few pairs that occur twice.
    ///
    /// # Errors
    /// A `vocab_size` below 514; texts of more than 2^31 bytes (then a sample of them has to do).
    pub fn train(
        texts: impl Iterator<Item = impl AsRef<str>>,
        vocab_size: usize,
    ) -> Result<Self, TokenizerError> {
        let symbols = byte_tokens();
        if vocab_size < symbols.len() + OPENAI_SPECIAL.len() {
            return Err(VocabularyError::TooSmall(vocab_size).into());
        }
        // As special tokens the symbols keep their order; else the trainer would sort them.
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab_size - OPENAI_SPECIAL.len())
            .min_frequency(MIN_FREQUENCY)
            .special_tokens(symbols.into_iter().map(|symbol| AddedToken::from(symbol, true)).collect())
            .end_of_word_suffix(END_OF_WORD.to_owned())
            .show_progress(false)
            .build();
        let words = count_words(texts)?.into_iter().map(|(word, count)| (word.into(), count)).collect();
        let mut model = BPE::default();
        trainer.do_train(&words, &mut model).map_err(|e| VocabularyError::Refused(e.to_string()))?;

        let merges = merges_of(&model);
        let mut ids = model.get_vocab();
        for token in OPENAI_SPECIAL {
            ids.insert(token.to_owned(), ids.len() as u32);
        }
        Ok(Self::new(Vocabulary::new(ids, merges)?, Flavour::OpenAi))
    }
}

/// How often each word occurs; the words are written in the symbols of their bytes.
fn count_words(texts: impl Iterator<Item = impl AsRef<str>>) -> Result<HashMap<String, u64>, TokenizerError> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut bytes = 0;
    for text in texts {
        split(text.as_ref(), Flavour::OpenAi, |piece| {
            if let Piece::Word(word) = piece
                && word.len() <= MAX_WORD
            {
                bytes += word.len() as u64;
                *counts.entry(symbols_of(word)).or_default() += 1;
            }
        });
    }
    // The trainer counts in 32 bits.
    if bytes > i32::MAX as u64 { Err(TokenizerError::TooMuchText(bytes)) } else { Ok(counts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captions of 30 words in changing order.
    fn captions() -> impl Iterator<Item = String> {
        let words = "A PHOTO of the small café's dog running over 25 wet stones, isn't it? naïve 日本語 😀 &amp; ‘it’s’";
        let words: Vec<_> = words.split(' ').collect();
        (0..200).map(move |i| {
            (0..9).map(|j| words[(i * (j + 3) + j * j) % words.len()]).collect::<Vec<_>>().join(" ")
        })
    }

    #[test]
    fn learns_bytes_then_merges_then_start_and_end() {
        let tokenizer = ClipTokenizer::train(captions(), 560).unwrap();
        let tokens = &tokenizer.vocabulary.tokens;
        assert_eq!(tokens.len(), 560);
        assert_eq!(tokens[..512], byte_tokens());
        assert_eq!(tokens[558..], OPENAI_SPECIAL);
        assert_eq!((tokenizer.start_id(), tokenizer.end_id(), tokenizer.pad_id()), (558, 559, 0));
        let merges = merges_of(&tokenizer.vocabulary.bpe);
        let merged: Vec<_> = merges.iter().map(|(left, right)| format!("{left}{right}")).collect();
        assert_eq!(tokens[512..558], merged);
    }

    #[test]
    fn the_same_texts_in_any_order_give_the_same_vocabulary() {
        let once = ClipTokenizer::train(captions(), 600).unwrap().vocabulary;
        let mut reversed: Vec<_> = captions().collect();
        reversed.reverse();
        for texts in [captions().collect(), reversed] {
            let again = ClipTokenizer::train(texts.iter(), 600).unwrap().vocabulary;
            assert_eq!(once.tokens, again.tokens);
            assert_eq!(merges_of(&once.bpe), merges_of(&again.bpe));
        }
    }

    #[test]
    fn the_most_frequent_pair_comes_first_and_a_single_one_never() {
        let tokenizer = ClipTokenizer::train(["abab ab cd", "zab"].iter(), 600).unwrap();
        let merges = merges_of(&tokenizer.vocabulary.bpe);
        assert_eq!(merges, [("a".to_owned(), "b</w>".to_owned())]);
        assert_eq!(tokenizer.vocab_size(), 515);
        let of_no_text = ClipTokenizer::train(std::iter::empty::<&str>(), 600).unwrap();
        assert_eq!(of_no_text.decode(&of_no_text.encode("Still ÄNY text!")), "still äny text ! ");
    }

    #[test]
    fn a_vocabulary_without_room_for_the_bytes_is_refused() {
        let error = ClipTokenizer::train(["a"].iter(), 513).unwrap_err();
        assert!(error.to_string().starts_with("a vocabulary of 513 tokens is too small"), "{error}");
    }
}
