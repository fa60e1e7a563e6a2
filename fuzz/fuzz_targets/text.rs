//! Any text through the tokenizer in every flavour, and any ids back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tuwen_data::tokenizer::{ClipTokenizer, Flavour, Overflow};

const CONTEXT: usize = 77;

const FLAVOURS: [Flavour; 3] = [Flavour::OpenAi, Flavour::OpenClip, Flavour::HuggingFace];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    let tokenizer = ClipTokenizer::openai().with_flavour(FLAVOURS[usize::from(choice % 3)]);
    let ids = tokenizer.encode(&text);
    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    tokenizer.decode(&ids);
    let any = rest.chunks(2).map(|pair| pair.iter().fold(0, |id, &byte| id << 8 | u32::from(byte)));
    tokenizer.decode(&any.collect::<Vec<_>>());
    let overflow = if choice < 128 { Overflow::Truncate } else { Overflow::Error };
    let too_long = ids.len() + 2 > CONTEXT;
    match tokenizer.encode_batch(&[&text, ""], CONTEXT, overflow) {
        Ok(batch) => {
            assert_eq!((batch.ids.len(), batch.attention_mask.len()), (2 * CONTEXT, 2 * CONTEXT));
            assert_eq!(batch.truncated.len(), usize::from(too_long));
        }
        Err(error) => assert!(too_long && overflow == Overflow::Error, "{error}"),
    }
});
