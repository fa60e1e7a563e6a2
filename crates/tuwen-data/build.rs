//! Recovers the merges of OpenAI's CLIP vocabulary from the crate `instant-clip-tokenizer` and leaves them in
//! `clip_merges.bin`: two token ids a merge, 16 bits each, little-endian.
//!
//! That crate reads the vocabulary from text each time and gives neither merges nor bytes: it decodes tokens to
//! lossy UTF-8. Exact bytes are had by decoding a token between bytes that complete its cut characters; the merges
//! follow from the order of the tokens. Done here, it costs no time at the start of the program.

#![allow(clippy::print_stdout)] // speaks to cargo

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;

use instant_clip_tokenizer::{Token, Tokenizer};

/// Number of merges: 49,408 tokens less 512 bytes, start and end.
const MERGES: u16 = 48_894;

/// A token: its bytes, and whether it ends a word.
type Content = (Vec<u8>, bool);

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let merges = merges(&tokens());
    if merges.len() != usize::from(MERGES) {
        return Err(
            format!("{} of {MERGES} merges of OpenAI's vocabulary were recovered", merges.len()).into()
        );
    }
    let bytes: Vec<u8> = merges.into_iter().flatten().flat_map(u16::to_le_bytes).collect();
    let directory = std::env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?;
    std::fs::write(PathBuf::from(directory).join("clip_merges.bin"), bytes)?;
    Ok(())
}

/// All tokens but start and end, in the order of their ids.
fn tokens() -> Vec<Content> {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.sort_by_key(|byte| !matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF));
    let source = Tokenizer::new();
    // All ids asked for are below the size of the source's vocabulary.
    let token = |id: u16| Token::from_u16(id, &source);
    let byte = |byte: &u8| bytes.iter().zip(0..).find(|(b, _)| *b == byte).and_then(|(_, id)| token(id));
    let with_tokens = |text: &'static [u8]| (text, text.iter().filter_map(byte).collect::<Vec<_>>());
    let starts = [b"" as &[u8], b"\xC3", b"\xE3", b"\xF3"].map(with_tokens);
    let ends = [b"" as &[u8], b"\x80", b"\xA0", b"\x80\x80", b"\xA0\x80", b"\x80\x80\x80", b"\xA0\x80\x80"];
    let ends = ends.map(with_tokens);

    let merged = (512..512 + MERGES).map(|id| {
        let between = |start: &[Token], end: &[Token]| {
            source.decode(start.iter().copied().chain(token(id)).chain(end.iter().copied()))
        };
        let surroundings = starts.iter().flat_map(|start| ends.iter().map(move |end| (start, end)));
        let exact = surroundings.into_iter().find_map(|(start, end)| {
            let text = between(&start.1, &end.1);
            let inner = start.0.len()..text.len() - end.0.len();
            (!text.contains(char::REPLACEMENT_CHARACTER)).then(|| text.as_bytes()[inner].to_vec())
        });
        let bytes = exact.unwrap_or_else(|| between(&[], &[]).into_bytes());
        bytes.strip_suffix(b" ").map(|word| (word.to_vec(), true)).unwrap_or((bytes, false))
    });
    let of_bytes =
        [false, true].into_iter().flat_map(|ends| bytes.iter().map(move |&byte| (vec![byte], ends)));
    of_bytes.chain(merged).collect()
}

/// The pairs that made the tokens after the bytes: the parts of a token are what it is encoded to with the merges
/// before it.
fn merges(tokens: &[Content]) -> Vec<[u16; 2]> {
    let ids: HashMap<&Content, u16> = tokens.iter().zip(0..).collect();
    let mut merged_ids = HashMap::new();
    let mut merges = Vec::new();
    for ((bytes, ends), id) in tokens.iter().zip(0..).skip(512) {
        let last = bytes.len() - 1;
        let part = |(at, &byte): (usize, &u8)| ids.get(&(vec![byte], *ends && at == last)).copied();
        let mut parts: Vec<u16> = bytes.iter().enumerate().filter_map(part).collect();
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
            merges.push([left, right]);
        }
    }
    merges
}
