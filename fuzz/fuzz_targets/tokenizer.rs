//! The files of a tokenizer, each of them broken in turn.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;
use tuwen_data::tokenizer::{ClipTokenizer, Flavour};
use tuwen_fuzz::say;

/// By the first byte, what the others are; a NUL parts two files.
const FILES: [&[&str]; 4] = [
    &["tokenizer.json"],
    &["vocab.json", "merges.txt"],
    &["bpe_simple_vocab_16e6.txt"],
    &["bpe_simple_vocab_16e6.txt.gz"],
];

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    let names = FILES[usize::from(kind % 4)];
    let parts: Vec<&[u8]> = bytes.splitn(names.len(), |&byte| byte == 0 && names.len() > 1).collect();
    let read = ClipTokenizer::from_files("/model".as_ref(), Flavour::HuggingFace, |path| {
        let at = names.iter().position(|name| path.ends_with(name));
        let part = at.and_then(|at| parts.get(at)).ok_or(io::ErrorKind::NotFound)?;
        Ok(part.to_vec())
    });
    match read {
        Ok(tokenizer) => {
            let ids = tokenizer.encode("A photo of two cats, 2 café-au-laits & 日本");
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            let all: Vec<u32> = (0..tokenizer.vocab_size() as u32 + 2).collect();
            tokenizer.decode(&all);
        }
        Err(error) => say(&error),
    }
});
