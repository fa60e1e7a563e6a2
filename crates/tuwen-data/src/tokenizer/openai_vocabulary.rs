//! The vocabulary of OpenAI's CLIP models.

use std::sync::{Arc, LazyLock};

use super::symbols::byte_tokens;
use super::vocabulary::{OPENAI_SPECIAL, Vocabulary};

/// The ids of the two tokens that each merge joins, 16 bits each; `build.rs` makes the file.
static MERGES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/clip_merges.bin"));

/// Number of merges: 49,408 tokens less 512 bytes, start and end.
pub(super) const OPENAI_MERGES: usize = MERGES.len() / 4;

/// The vocabulary, made on first use.
pub(super) fn openai_vocabulary() -> Arc<Vocabulary> {
    static VOCABULARY: LazyLock<Arc<Vocabulary>> = LazyLock::new(|| {
        let mut tokens = byte_tokens();
        let mut merges = Vec::with_capacity(OPENAI_MERGES);
        for &[left, left_high, right, right_high] in MERGES.as_chunks().0 {
            let token = |id: [u8; 2]| tokens[usize::from(u16::from_le_bytes(id))].clone();
            let merge = (token([left, left_high]), token([right, right_high]));
            tokens.push(format!("{}{}", merge.0, merge.1));
            merges.push(merge);
        }
        tokens.extend(OPENAI_SPECIAL.map(String::from));
        let ids = tokens.into_iter().zip(0..).collect();
        Arc::new(Vocabulary::new(ids, merges).expect("the vocabulary is part of the program"))
    });
    VOCABULARY.clone()
}
