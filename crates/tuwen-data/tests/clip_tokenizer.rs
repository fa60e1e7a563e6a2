//! CLIP's tokenizer against ids recorded from OpenAI's, open_clip's and Hugging Face's programs.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // helpers of tests

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tuwen_data::tokenizer::{ClipTokenizer, Flavour, Overflow, TokenizerError};

const CONTEXT: usize = 77;
const FLAVOURS: [(&str, Flavour); 3] =
    [("openai", Flavour::OpenAi), ("open_clip", Flavour::OpenClip), ("hf", Flavour::HuggingFace)];

/// A file of the golden case, or `None` (with a note) where the fixtures are not there.
fn golden(file: &str) -> Option<String> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures/clip-tokenizer"));
    if !path.is_dir() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    Some(fs::read_to_string(path.join(file)).unwrap())
}

fn ids(json: &Value) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn ids_of_all_recorded_texts_in_every_flavour() {
    let Some(cases) = golden("cases.jsonl") else { return };
    let mut wrong = Vec::new();
    let mut texts = 0;
    for case in cases.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let text = case["text"].as_str().unwrap();
        texts += 1;
        for (name, flavour) in FLAVOURS {
            let tokenizer = ClipTokenizer::openai().with_flavour(flavour);
            let expected = ids(case.get(name).unwrap_or(&case["openai"]));
            let got = tokenizer.encode(text);
            if got != expected {
                wrong.push(format!("{name} {text:?}\n  expected {expected:?}\n  got      {got:?}"));
            }

            let batch = tokenizer.encode_batch(&[text], CONTEXT, Overflow::Truncate).unwrap();
            let too_long = expected.len() + 2 > CONTEXT;
            let cut: Vec<usize> = batch.truncated.iter().map(|t| t.tokens).collect();
            assert_eq!(cut, if too_long { vec![expected.len() + 2] } else { vec![] }, "{name} {text:?}");
            if let Some(truncated) = case.get(format!("{name}_truncated")) {
                assert_eq!(batch.ids, ids(truncated), "{name} {text:?}");
            }
            let strict = tokenizer.encode_batch(&[text], CONTEXT, Overflow::Error);
            assert_eq!(matches!(strict, Err(TokenizerError::TooLong { .. })), too_long, "{name} {text:?}");
            if name == "openai" {
                assert_eq!(strict.is_err(), case.get("openai_error").is_some_and(|e| e == true), "{text:?}");
            }
        }
        if let Some(decoded) = case.get("openai_decoded") {
            assert_eq!(ClipTokenizer::openai().decode(&ids(&case["openai"])), decoded.as_str().unwrap());
        }
    }
    assert_eq!(texts, 325);
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), 3 * texts, wrong.join("\n"));
}

#[test]
fn recorded_batches() {
    let Some(batch) = golden("batch.json") else { return };
    let recorded: Value = serde_json::from_str(&batch).unwrap();
    let texts: Vec<&str> =
        recorded["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    for (name, flavour) in FLAVOURS {
        let tokenizer = ClipTokenizer::openai().with_flavour(flavour);
        // Hugging Face pads to the longest text of the batch.
        let rows = recorded[name].get("input_ids").unwrap_or(&recorded[name]);
        let context_length = rows[0].as_array().unwrap().len();
        let batch = tokenizer.encode_batch(&texts, context_length, Overflow::Error).unwrap();
        let expected: Vec<u32> = rows.as_array().unwrap().iter().flat_map(ids).collect();
        assert_eq!(batch.ids, expected, "{name}");
        if let Some(mask) = recorded[name].get("attention_mask") {
            let expected: Vec<bool> =
                mask.as_array().unwrap().iter().flat_map(ids).map(|keep| keep == 1).collect();
            assert_eq!(batch.attention_mask, expected, "{name}");
        }
    }
}

#[test]
fn vectors_of_the_specification() {
    let x_30 = "x".repeat(30);
    let x_ids = [[32035; 6].as_slice(), &[5675, 22819]].concat();
    let vectors: [(&str, &[u32]); 15] = [
        ("Hello World!", &[3306, 1002, 256]),
        ("a diagram", &[320, 22697]),
        ("a dog", &[320, 1929]),
        ("a cat", &[320, 2368]),
        ("a photo of a cat", &[320, 1125, 539, 320, 2368]),
        ("It's 2024!!! don't", &[585, 568, 273, 271, 273, 275, 995, 847, 713]),
        ("naïve café", &[1097, 35689, 563, 15304]),
        ("😀", &[7334]),
        ("日本語", &[39121, 44353, 34002, 508]),
        ("  multiple   spaces\n", &[6470, 9006]),
        ("&amp;lt;b&gt;", &[283, 321, 285]),
        ("a picture of a woman's hat...", &[320, 1674, 539, 320, 2308, 568, 3801, 678]),
        ("!", &[256]),
        ("<|endoftext|>", &[49407]),
        (&x_30, &x_ids),
    ];
    let tokenizer = ClipTokenizer::openai();
    for (text, expected) in vectors {
        assert_eq!(tokenizer.encode(text), expected, "{text:?}");
    }
    assert_eq!((tokenizer.start_id(), tokenizer.end_id(), tokenizer.vocab_size()), (49406, 49407, 49408));
}
