//! The vocabulary of OpenAI's CLIP models, which the crate `instant-clip-tokenizer` brings along.
//!
//! That crate gives tokens as lossy UTF-8 only, and no merges. Exact bytes are had by decoding a token between
//! bytes that complete its cut characters; the merges follow from the order of the tokens.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use instant_clip_tokenizer::{Token, Tokenizer};

use super::symbols::{END_OF_WORD, SYMBOLS, byte_tokens};
use super::vocabulary::{OPENAI_SPECIAL, Vocabulary};

/// Number of merges: 49,408 tokens less 512 bytes, start and end.
pub(super) const OPENAI_MERGES: usize = 48_894;

/// The vocabulary, made on first use.
pub(super) fn openai_vocabulary() -> Arc<Vocabulary> {
    static VOCABULARY: LazyLock<Arc<Vocabulary>> = LazyLock::new(|| {
        let mut tokens = tokens();
        let merges = merges(&tokens);
        tokens.extend(OPENAI_SPECIAL.map(String::from));
        Arc::new(Vocabulary::from_tokens(tokens, merges).expect("a test recovers the vocabulary"))
    });
    VOCABULARY.clone()
}

/// All tokens but start and end.
fn tokens() -> Vec<String> {
    let source = Tokenizer::new();
    let mut tokens = byte_tokens();
    // All ids asked for are below the size of the source's vocabulary.
    let token = |id: usize| Token::from_u16(id as u16, &source);
    let byte =
        |byte: u8| tokens.iter().position(|t| t.chars().eq([SYMBOLS[usize::from(byte)]])).and_then(token);
    let with_tokens =
        |bytes: &'static [u8]| (bytes, bytes.iter().filter_map(|&b| byte(b)).collect::<Vec<_>>());
    let starts = [b"" as &[u8], b"\xC3", b"\xE3", b"\xF3"].map(with_tokens);
    let ends = [b"" as &[u8], b"\x80", b"\xA0", b"\x80\x80", b"\xA0\x80", b"\x80\x80\x80", b"\xA0\x80\x80"];
    let ends = ends.map(with_tokens);

    let merged = (512..512 + OPENAI_MERGES).map(|id| {
        let between = |start: &[Token], end: &[Token]| {
            source.decode(start.iter().copied().chain(token(id)).chain(end.iter().copied()))
        };
        let combinations = starts.iter().flat_map(|start| ends.iter().map(move |end| (start, end)));
        let exact = combinations.into_iter().find_map(|(start, end)| {
            let text = between(&start.1, &end.1);
            let inner = start.0.len()..text.len() - end.0.len();
            (!text.contains(char::REPLACEMENT_CHARACTER)).then(|| text.as_bytes()[inner].to_vec())
        });
        let bytes = exact.unwrap_or_else(|| between(&[], &[]).into_bytes());
        let (word, mark) = bytes.strip_suffix(b" ").map_or((&bytes[..], ""), |word| (word, END_OF_WORD));
        word.iter().map(|&b| SYMBOLS[usize::from(b)]).chain(mark.chars()).collect()
    });
    let merged: Vec<String> = merged.collect();
    tokens.extend(merged);
    tokens
}

/// The merges that made the tokens after the bytes: the parts of a token are what it is encoded to with the merges
/// before it.
fn merges(tokens: &[String]) -> Vec<(String, String)> {
    let ids: HashMap<&str, u32> = tokens.iter().map(String::as_str).zip(0..).collect();
    let mut merged_ids = HashMap::with_capacity(OPENAI_MERGES);
    let mut merges = Vec::with_capacity(OPENAI_MERGES);
    for (token, id) in tokens.iter().zip(0_u32..).skip(512) {
        let word = token.strip_suffix(END_OF_WORD).unwrap_or(token);
        let mut parts: Vec<u32> =
            word.chars().filter_map(|c| ids.get(c.encode_utf8(&mut [0; 4]) as &str).copied()).collect();
        if let Some(last) = parts.last_mut().filter(|_| word.len() < token.len()) {
            *last += 256;
        }
        while parts.len() > 2
            && let Some(&first) = parts.windows(2).filter_map(|pair| merged_ids.get(pair)).min()
        {
            let mut at = 0;
            while at + 1 < parts.len() {
                if merged_ids.get(&parts[at..at + 2]) == Some(&first) {
                    parts.splice(at..at + 2, [first]);
                }
                at += 1;
            }
        }
        if let [left, right] = parts[..] {
            merged_ids.insert([left, right], id);
            merges.push((tokens[left as usize].clone(), tokens[right as usize].clone()));
        }
    }
    merges
}
