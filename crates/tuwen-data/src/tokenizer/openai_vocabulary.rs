//! The vocabulary of OpenAI's CLIP models, which the crate `instant-clip-tokenizer` brings along.
//!
//! That crate gives tokens as lossy UTF-8 only, and no merges. Exact bytes are had by decoding a token between
//! bytes that complete its cut characters; the merges follow from the order of the tokens.

use std::sync::{Arc, LazyLock};

use instant_clip_tokenizer::{Token, Tokenizer};

use super::bpe::{Bpe, END_OF_WORD, byte_symbols, byte_tokens};

/// Number of merges: 49,408 tokens less 512 bytes, start and end.
const MERGES: u16 = 48_894;

/// What OpenAI's and Hugging Face's vocabularies call start and end.
pub(super) const START_OF_TEXT: &str = "<|startoftext|>";
/// See [`START_OF_TEXT`].
pub(super) const END_OF_TEXT: &str = "<|endoftext|>";

/// The vocabulary, made on first use.
pub(super) fn openai_vocabulary() -> Arc<Bpe> {
    static VOCABULARY: LazyLock<Arc<Bpe>> = LazyLock::new(|| {
        let bpe = Bpe::from_ranked_tokens(tokens(), usize::from(MERGES));
        Arc::new(bpe.expect("a test recovers the vocabulary"))
    });
    VOCABULARY.clone()
}

fn tokens() -> Vec<String> {
    let source = Tokenizer::new();
    let symbols = byte_symbols();
    let mut tokens = byte_tokens();
    // A token of the source by its number; all numbers asked for are below the size of its vocabulary.
    let token = |id: usize| Token::from_u16(id as u16, &source);
    // Ids of bytes that begin and that continue a character of several bytes.
    let byte = |byte: u8| tokens.iter().position(|t| t.chars().eq([symbols[usize::from(byte)]])).and_then(token);
    let starts = [vec![], vec![0xC3], vec![0xE3], vec![0xF3]];
    let ends = [vec![], vec![0x80], vec![0xA0], vec![0x80, 0x80], vec![0xA0, 0x80], vec![0x80; 3], vec![0xA0, 0x80, 0x80]];
    let encode = |bytes: &Vec<u8>| bytes.iter().filter_map(|&b| byte(b)).collect::<Vec<_>>();
    let (start_tokens, end_tokens) = (starts.each_ref().map(encode), ends.each_ref().map(encode));

    let mut merged: Vec<String> = Vec::with_capacity(usize::from(MERGES));
    for id in 512..512 + usize::from(MERGES) {
        let whole = |start: &[Token], end: &[Token]| {
            source.decode(start.iter().copied().chain(token(id)).chain(end.iter().copied()))
        };
        let plain = whole(&[], &[]);
        let exact = (0..starts.len()).flat_map(|s| (0..ends.len()).map(move |e| (s, e))).find_map(|(s, e)| {
            let text = whole(&start_tokens[s], &end_tokens[e]);
            let inner = starts[s].len()..text.len() - ends[e].len();
            (!text.contains(char::REPLACEMENT_CHARACTER)).then(|| text.as_bytes()[inner].to_vec())
        });
        let bytes = exact.unwrap_or(plain.into_bytes());
        let (word, mark) = bytes.strip_suffix(b" ").map_or((&bytes[..], ""), |word| (word, END_OF_WORD));
        merged.push(word.iter().map(|&b| symbols[usize::from(b)]).chain(mark.chars()).collect());
    }
    tokens.append(&mut merged);
    tokens.extend([START_OF_TEXT, END_OF_TEXT].map(String::from));
    tokens
}
