//! Any text through the tokenizer in every flavour, and any ids back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuwen_data::tokenizer::{ClipTokenizer, Flavour, Overflow};

const CONTEXT: usize = 77;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let tokenizer = ClipTokenizer::openai();
    let size = tokenizer.vocab_size() as u32;
    let any: Vec<u32> =
        data.chunks(2).map(|pair| pair.iter().fold(0, |id, &byte| id << 8 | u32::from(byte))).collect();
    for flavour in [Flavour::OpenAi, Flavour::OpenClip, Flavour::HuggingFace] {
        let tokenizer = tokenizer.with_flavour(flavour);
        let ids = tokenizer.encode(&text);
        assert!(ids.iter().all(|&id| id < size));
        tokenizer.decode(&ids);
        tokenizer.decode(&any);
        let batch = tokenizer.encode_batch(&[&text, ""], CONTEXT, Overflow::Truncate).expect("fits");
        assert_eq!((batch.ids.len(), batch.attention_mask.len()), (2 * CONTEXT, 2 * CONTEXT));
        assert_eq!(batch.truncated.len(), usize::from(ids.len() + 2 > CONTEXT));
        let fits = tokenizer.encode_batch(&[&text], CONTEXT, Overflow::Error).is_ok();
        assert_eq!(fits, ids.len() + 2 <= CONTEXT);
    }
});
