//! BERT's tokenizer and the cleaning of texts against what the original programs make of them.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // helpers of tests

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tuwen_data::tokenizer::{
    BertFlavour, BertTokenizer, Cleaning, ENCODER_START, Overflow, Padding, TokenizerError,
};

/// A file of the golden case and the tokenizer that it is about, or `None` (with a note) where the data are not there.
fn golden(file: &str) -> Option<(String, BertTokenizer)> {
    let shared = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let path = shared.join("fixtures/bert-tokenizer").join(file);
    let vocabulary = shared.join("data/tokenizers/bert_base_uncased_vocab.txt");
    for path in [&path, &vocabulary] {
        if !path.exists() {
            eprintln!("skipped: no {}", path.display());
            return None;
        }
    }
    let tokenizer = BertTokenizer::from_vocabulary_file(&vocabulary).unwrap().for_blip();
    Some((fs::read_to_string(path).unwrap(), tokenizer))
}

fn ids(json: &Value) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn one(tokenizer: &BertTokenizer, text: &str, limit: usize) -> Vec<u32> {
    tokenizer.encode_batch(&[text], limit, Padding::Longest, Overflow::Truncate).unwrap().ids
}

#[test]
fn ids_of_all_recorded_texts_in_both_flavours() {
    let Some((cases, tokenizer)) = golden("cases.jsonl") else { return };
    let mut wrong = Vec::new();
    let mut texts = 0;
    for case in cases.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let text = case["text"].as_str().unwrap();
        texts += 1;
        for (name, flavour) in [("ids", BertFlavour::Original), ("hf_ids", BertFlavour::HuggingFace)] {
            let expected = ids(case.get(name).unwrap_or(&case["ids"]));
            let got = one(&tokenizer.with_flavour(flavour), text, usize::MAX);
            if got != expected {
                wrong.push(format!("{name} {text:?}\n  expected {expected:?}\n  got      {got:?}"));
            }
        }
        let truncated = ids(case.get("ids_truncated_30").unwrap_or(&case["ids"]));
        assert_eq!(one(&tokenizer, text, 30), truncated, "{text:?}");
    }
    assert_eq!(texts, 325);
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), 2 * texts, wrong.join("\n"));
}

#[test]
fn recorded_batches() {
    let Some((recorded, tokenizer)) = golden("batch.json") else { return };
    let recorded: Value = serde_json::from_str(&recorded).unwrap();
    let texts: Vec<&str> =
        recorded["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    for (name, limit, padding) in
        [("longest_40", 40, Padding::Longest), ("max_length_35", 35, Padding::Limit)]
    {
        let batch = tokenizer.encode_batch(&texts, limit, padding, Overflow::Error).unwrap();
        let rows = |field: &str| -> Vec<u32> {
            recorded[name][field].as_array().unwrap().iter().flat_map(ids).collect()
        };
        assert_eq!(batch.ids, rows("input_ids"), "{name}");
        let mask: Vec<u32> = batch.attention_mask.iter().map(|&keep| u32::from(keep)).collect();
        assert_eq!(mask, rows("attention_mask"), "{name}");
    }
    let error = tokenizer.encode_batch(&texts, 6, Padding::Longest, Overflow::Error).unwrap_err();
    assert!(matches!(error, TokenizerError::TooLong { text: 2, tokens: 7, context_length: 6 }), "{error}");
}

#[test]
fn texts_of_recorded_ids() {
    let Some((recorded, tokenizer)) = golden("decode.json") else { return };
    let recorded: Value = serde_json::from_str(&recorded).unwrap();
    for case in recorded.as_array().unwrap() {
        let expected = case["decoded_skip_special"].as_str().unwrap();
        assert_eq!(tokenizer.decode(&ids(&case["ids"])), expected, "{:?}", case["ids"]);
    }
    assert_eq!(tokenizer.decode(&[30522, 1037, 30523, 4937, 99999, 0]), "a cat");
}

#[test]
fn texts_are_cleaned_as_recorded() {
    let Some((cases, tokenizer)) = golden("cleaning.jsonl") else { return };
    for case in cases.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let text = case["text"].as_str().unwrap();
        for (name, cleaning, max_words) in [
            ("blip_caption_30", Cleaning::BlipCaption, 30),
            ("blip_question_50", Cleaning::BlipQuestion, 50),
            ("albef_caption_30", Cleaning::AlbefCaption, 30),
            ("albef_question_50", Cleaning::AlbefQuestion, 50),
        ] {
            assert_eq!(cleaning.apply(text, max_words), case[name].as_str().unwrap(), "{name} {text:?}");
        }
        let caption = format!("a picture of {}", Cleaning::BlipCaption.apply(text, 30));
        assert_eq!(one(&tokenizer, &caption, usize::MAX), ids(&case["blip_caption_ids"]), "{text:?}");
    }
}

#[test]
fn added_tokens_are_the_last_and_stand_for_themselves() {
    let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ndog\n##s\n";
    let tokenizer = BertTokenizer::from_vocabulary(vocabulary).unwrap().for_blip();
    assert_eq!(
        (tokenizer.vocab_size(), tokenizer.id("[DEC]"), tokenizer.id(ENCODER_START)),
        (9, Some(7), Some(8))
    );
    assert_eq!(tokenizer.encode("[ENC]Dogs [dec]"), [8, 5, 6, 1, 1, 1]);
    assert_eq!(tokenizer.clone().for_blip().vocab_size(), 9);
    let error = BertTokenizer::from_vocabulary("[PAD]\n[UNK]\n[CLS]\ndog").unwrap_err();
    assert!(error.contains("[SEP]"), "{error}");
}

#[test]
fn a_file_that_is_no_vocabulary_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("vocab.txt");
    for (bytes, reason) in [(&b"a\xFF"[..], "not a UTF-8"), (b"", "[PAD]")] {
        fs::write(&path, bytes).unwrap();
        let message = BertTokenizer::from_vocabulary_file(&path).unwrap_err().to_string();
        assert!(message.contains("vocab.txt") && message.contains(reason), "{message}");
    }
}

#[test]
fn a_directory_has_one_file_or_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let open = || BertTokenizer::from_directory(directory.path());
    assert!(open().unwrap_err().to_string().contains("no vocab.txt or tokenizer.json"));
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let json = r###"{"added_tokens": [{"id": 5, "content": "dog"}], "model": {"type": "WordPiece",
        "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "##s": 6}}}"###;
    write("tokenizer.json", json);
    assert_eq!(open().unwrap().encode("dogs"), [5, 6]);
    for (wrong, reason) in [
        (json.replace("WordPiece", "BPE"), "expected a WordPiece model, got BPE"),
        (json.replace("6}", "7}"), "no token has id 6"),
        ("{}".to_owned(), "missing field"),
    ] {
        write("tokenizer.json", &wrong);
        let message = open().unwrap_err().to_string();
        assert!(message.contains("tokenizer.json: ") && message.contains(reason), "{message}");
    }
    write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n##s\ndog\n");
    assert_eq!(open().unwrap().encode("dogs"), [6, 5]);
}
