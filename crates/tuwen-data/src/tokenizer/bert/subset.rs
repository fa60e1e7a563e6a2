//! A smaller vocabulary for a small model: the pieces that its texts are made of.

use std::cmp::Reverse;

use super::{BertTokenizer, Vocabulary};

/// The first ids stay what they are, so that the five special tokens have those that every program knows.
const KEPT_IDS: usize = 104;

impl BertTokenizer {
    /// The same tokenizer with at most `size` of its tokens: the first, which are special or unused, single ASCII
    /// characters, of which any English word can be made, and then the most frequent pieces of `texts`.
    ///
    /// # Errors
    /// A size that does not hold what always stays, as one line.
    pub fn subset(&self, texts: impl Iterator<Item = String>, size: usize) -> Result<Self, String> {
        let Vocabulary { tokens, .. } = &*self.vocabulary;
        let mut counts = vec![0_u64; tokens.len()];
        texts.for_each(|text| self.encode(&text).into_iter().for_each(|id| counts[id as usize] += 1));
        let stays = |id: usize| id < KEPT_IDS || is_character(&tokens[id]);
        let always = (0..tokens.len()).filter(|&id| stays(id)).count();
        if size < always {
            return Err(format!("a vocabulary of {size} tokens is too small: {always} always stay"));
        }
        let mut rest: Vec<usize> = (0..tokens.len()).filter(|&id| !stays(id) && counts[id] > 0).collect();
        rest.sort_by_key(|&id| (Reverse(counts[id]), id));
        rest.truncate(size - always);
        let mut chosen: Vec<usize> = (0..tokens.len()).filter(|&id| stays(id)).chain(rest).collect();
        chosen.sort_unstable();
        let smaller = Self::new(chosen.into_iter().map(|id| tokens[id].clone()).collect())?;
        Ok(smaller.with_flavour(self.flavour))
    }
}

/// A single ASCII character, at the start of a word or after it.
fn is_character(token: &str) -> bool {
    let token = token.strip_prefix("##").unwrap_or(token);
    token.len() == 1 && token.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_pieces_stay_and_everything_can_be_written() {
        let mut tokens: Vec<String> = (0..104).map(|id| format!("[unused{id}]")).collect();
        for (id, token) in [(0, "[PAD]"), (100, "[UNK]"), (101, "[CLS]"), (102, "[SEP]"), (103, "[MASK]")] {
            tokens[id] = token.into();
        }
        tokens.extend(["a", "d", "##o", "##g", "dog", "##s", "cat", "a\u{301}"].map(String::from));
        let whole = BertTokenizer::new(tokens).unwrap();
        let texts = || ["a dog", "dogs"].map(String::from).into_iter();
        let small = whole.subset(texts(), 110).unwrap();
        assert_eq!((small.vocab_size(), small.end_id()), (110, 102));
        assert_eq!(small.decode(&small.encode("dogs")), "dogs");
        assert!(small.id("cat").is_none() && small.id("dog").is_some());
        let smallest = whole.subset(texts(), 109).unwrap();
        assert_eq!(smallest.decode(&smallest.encode("dogs")), "dogs");
        assert!(whole.subset(texts(), 50).unwrap_err().contains("always stay"));
    }
}
