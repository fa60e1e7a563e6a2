//! CLIP tokenizers learnt, written and read again; files that are no tokenizers; any text at all.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // helpers of tests

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use tuwen_data::tokenizer::{ClipTokenizer, Flavour, Overflow, TokenizerError, Truncated};

const FLAVOURS: [Flavour; 3] = [Flavour::OpenAi, Flavour::OpenClip, Flavour::HuggingFace];
const TEXTS: [&str; 4] = [
    "A dog's photo: two dogs running over 25 wet stones",
    "dogs, dogs & more dogs; isn't that a photo of dogs?",
    "naïve café 日本語 😀 <|endoftext|> <end_of_text>",
    "unseen zebra &amp;lt; ‘quoted’",
];

// Threads share a tokenizer.
const _: fn() = || {
    fn shared<T: Clone + Send + Sync>() {}
    shared::<ClipTokenizer>();
};

fn trained() -> ClipTokenizer {
    ClipTokenizer::train(TEXTS[..3].iter(), 600).unwrap()
}

/// A directory with what `save` writes, without the files `without`.
fn saved(tokenizer: &ClipTokenizer, without: &[&str]) -> TempDir {
    let directory = TempDir::new().unwrap();
    tokenizer.save(directory.path()).unwrap();
    without.iter().for_each(|name| fs::remove_file(directory.path().join(name)).unwrap());
    directory
}

fn assert_same(one: &ClipTokenizer, other: &ClipTokenizer) {
    assert_eq!((one.vocab_size(), one.flavour()), (other.vocab_size(), other.flavour()));
    let batch = |t: &ClipTokenizer| t.encode_batch(&TEXTS, 100, Overflow::Error).unwrap();
    assert_eq!(batch(one), batch(other));
    let all: Vec<u32> = (0..one.vocab_size() as u32).collect();
    assert_eq!(one.decode(&all), other.decode(&all));
}

#[test]
fn what_is_written_reads_back_from_either_form() {
    let tokenizer = trained();
    for without in [&[][..], &["vocab.json", "merges.txt"], &["tokenizer.json"]] {
        let directory = saved(&tokenizer, without);
        for flavour in FLAVOURS {
            let read = ClipTokenizer::from_directory(directory.path(), flavour).unwrap();
            assert_same(&read, &tokenizer.with_flavour(flavour));
        }
    }
}

#[test]
fn writing_again_replaces_the_files_and_leaves_no_others() {
    let directory = saved(&ClipTokenizer::train(["ab"].iter(), 514).unwrap(), &[]);
    trained().save(directory.path()).unwrap();
    assert_same(&ClipTokenizer::from_directory(directory.path(), Flavour::OpenAi).unwrap(), &trained());
    let mut names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    let written =
        ["merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json"];
    assert_eq!(names, written);
    let below_a_file = directory.path().join("vocab.json");
    assert!(
        matches!(trained().save(&below_a_file).unwrap_err(), TokenizerError::Io { path, .. } if path == below_a_file)
    );
}

#[test]
fn openai_file_and_built_in_vocabulary_are_the_same() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/tokenizers/clip_bpe_simple_vocab_16e6.txt.gz"
    );
    if !Path::new(file).is_file() {
        eprintln!("skipped: no {file}");
        return;
    }
    let directory = TempDir::new().unwrap();
    fs::copy(file, directory.path().join("bpe_simple_vocab_16e6.txt.gz")).unwrap();
    let read = ClipTokenizer::from_directory(directory.path(), Flavour::OpenAi).unwrap();
    assert_same(&read, &ClipTokenizer::openai());
    let of_both = [read, ClipTokenizer::openai()].map(|tokenizer| {
        let directory = saved(&tokenizer, &[]);
        ["vocab.json", "merges.txt", "tokenizer.json"]
            .map(|name| fs::read(directory.path().join(name)).unwrap())
    });
    assert!(of_both[0] == of_both[1], "the files of the two differ");
}

#[test]
fn older_forms_of_the_files_are_read() {
    let directory = saved(&trained(), &[]);
    // Merges as lines, start and end only among the added tokens, with open_clip's names.
    let path = directory.path().join("tokenizer.json");
    let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for merge in file["model"]["merges"].as_array_mut().unwrap() {
        *merge = json!(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()));
    }
    for (number, name) in ["<start_of_text>", "<end_of_text>"].into_iter().enumerate() {
        let old = file["added_tokens"][number]["content"].as_str().unwrap().to_owned();
        file["model"]["vocab"].as_object_mut().unwrap().remove(&old);
        file["added_tokens"][number]["content"] = json!(name);
    }
    fs::write(&path, file.to_string()).unwrap();
    assert_same(&ClipTokenizer::from_directory(directory.path(), Flavour::OpenAi).unwrap(), &trained());

    let merges = fs::read_to_string(directory.path().join("merges.txt")).unwrap();
    let plain = TempDir::new().unwrap();
    let text = merges.replacen('#', "\"bpe_simple_vocab_16e6.txt#", 1).replace('\n', "\r\n");
    fs::write(plain.path().join("bpe_simple_vocab_16e6.txt"), text).unwrap();
    assert_same(&ClipTokenizer::from_directory(plain.path(), Flavour::OpenAi).unwrap(), &trained());
}

/// What is wrong with a directory in which `change` was applied to a file.
fn error_after(name: &str, without: &[&str], change: impl FnOnce(&str) -> Vec<u8>) -> (PathBuf, String) {
    let directory = saved(&trained(), without);
    let path = directory.path().join(name);
    let changed = change(&fs::read_to_string(&path).unwrap());
    fs::write(&path, changed).unwrap();
    match ClipTokenizer::from_directory(directory.path(), Flavour::OpenAi).unwrap_err() {
        TokenizerError::Format { path: named, reason } => {
            (named.strip_prefix(&directory).unwrap().into(), reason)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn hostile_files_are_refused_by_name() {
    let replaced = |from: &'static str, to: &'static str| {
        move |text: &str| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1).into_bytes()
        }
    };
    let deep = |_: &str| format!("{{\"model\":{{\"merges\":{}", "[".repeat(1 << 20)).into_bytes();
    for (change, reason) in [
        (Box::new(deep) as Box<dyn FnOnce(&str) -> Vec<u8>>, "recursion limit"),
        (Box::new(|text: &str| text.as_bytes()[..text.len() / 2].to_vec()), "EOF"),
        (Box::new(|_: &str| vec![0xFF; 9]), "expected value"),
        (Box::new(replaced("\"!\":0", "\"!\":-1")), "invalid value"),
        (
            Box::new(replaced("\"!\":0", "\"!\":4294967295")),
            "has id 4294967295; 522 tokens need the ids 0 to 521",
        ),
        (Box::new(replaced("\"!\":0", "\"!\":1")), "both have id 1"),
        (Box::new(replaced("\"!\":0", "\"other\":0")), "token \"!\" is missing"),
        (Box::new(replaced("\"vocab\"", "\"no_vocab\"")), "missing field `vocab`"),
        (
            Box::new(replaced("[\"h\",\"o\"]", "[\"h\",\"unknown\"]")),
            "token \"unknown\" is not in the vocabulary",
        ),
        (Box::new(replaced("[\"h\",\"o\"]", "[\"dogs</w>\",\"dogs</w>\"]")), "is not in the vocabulary"),
        (Box::new(replaced("[\"h\",\"o\"]", "\"h  o\"")), "expected two tokens"),
        (
            Box::new(replaced("</w>\",\"fuse", "\",\"fuse")),
            "model.end_of_word_suffix: expected \"</w>\", got Some(\"\")",
        ),
        (Box::new(replaced("prefix\":null", "prefix\":\"##########\"")), "model.continuing_subword_prefix"),
        (Box::new(replaced("\"<|startoftext|>\"", "\"<cat>\"")), "added token \"<cat>\" is none of CLIP's"),
    ] {
        let (path, got) = error_after("tokenizer.json", &[], change);
        assert_eq!(path, Path::new("tokenizer.json"));
        assert!(got.contains(reason), "expected {reason:?}, got {got:?}");
    }
    for (name, from, to, reason) in [
        ("vocab.json", "\"<|endoftext|>\"", "\"other\"", "token \"<|endoftext|>\" is missing"),
        ("vocab.json", "{", "[", "invalid type: sequence, expected a map"),
        ("merges.txt", "\nh o\n", "\nh\n", "expected two tokens, got \"h\""),
        ("merges.txt", "\nh o\n", "\nh o\nh o\n", "is there a second time"),
        ("merges.txt", "\nh o\n", "\nh !\n", "token \"h!\" is not in the vocabulary"),
    ] {
        let (path, got) = error_after(name, &["tokenizer.json"], replaced(from, to));
        assert_eq!(path, Path::new(name));
        assert!(got.contains(reason), "expected {reason:?}, got {got:?}");
    }
}

#[test]
fn packed_files_that_unpack_to_too_much_or_not_at_all_are_refused() {
    let directory = TempDir::new().unwrap();
    let found_nothing = ClipTokenizer::from_directory(directory.path(), Flavour::OpenAi).unwrap_err();
    assert!(matches!(found_nothing, TokenizerError::NotFound(path) if path == directory.path()));

    let path = directory.path().join("bpe_simple_vocab_16e6.txt.gz");
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b'\n'), 80 << 20), &mut bomb).unwrap();
    for (bytes, reason) in
        [(bomb.finish().unwrap(), "more than 67108864 bytes"), (vec![1, 2, 3], "cannot be unpacked")]
    {
        fs::write(&path, bytes).unwrap();
        let error = ClipTokenizer::from_directory(directory.path(), Flavour::OpenAi).unwrap_err().to_string();
        assert!(error.contains(reason) && error.starts_with(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn texts_past_the_context_are_refused_or_cut_and_told_of() {
    let tokenizer = ClipTokenizer::openai();
    let texts = ["a cat", "a photo of a cat", "", "a photo of two cats and a dog"];
    let error = tokenizer.encode_batch(&texts, 6, Overflow::Error).unwrap_err();
    assert_eq!(error.to_string(), "text 1 has 7 tokens, start and end token included; the context holds 6");
    let batch = tokenizer.encode_batch(&texts, 6, Overflow::Truncate).unwrap();
    assert_eq!(batch.truncated, [Truncated { text: 1, tokens: 7 }, Truncated { text: 3, tokens: 10 }]);
    assert_eq!(batch.ids[..12], [49406, 320, 2368, 49407, 0, 0, 49406, 320, 1125, 539, 320, 49407]);
    assert_eq!(batch.attention_mask[..7], [true, true, true, true, false, false, true]);
    assert_eq!((batch.ids.len(), batch.attention_mask.len(), batch.context_length), (24, 24, 6));
    assert_eq!(tokenizer.encode_batch(&[""], 2, Overflow::Error).unwrap().ids, [49406, 49407]);
    let error = tokenizer.encode_batch(&texts, 1, Overflow::Truncate).unwrap_err();
    assert!(matches!(error, TokenizerError::ContextTooShort(1)));
}

#[test]
fn text_made_to_waste_time_is_encoded() {
    let nested = format!("&{}lt;", "amp;".repeat(20_000));
    let letters = "ab".repeat(50_000);
    for text in [nested, letters.clone(), "Ã".repeat(20_000), "ÃƒÂ".repeat(5_000), "&".repeat(50_000)] {
        for flavour in FLAVOURS {
            assert!(!ClipTokenizer::openai().with_flavour(flavour).encode(&text).is_empty());
        }
    }
    assert_eq!(ClipTokenizer::train([letters].iter(), 600).unwrap().vocab_size(), 514);
}

proptest! {
    #[test]
    fn plain_words_come_back(words in "[a-z]{1,12}( [a-z]{1,12}){0,8}") {
        for flavour in FLAVOURS {
            let tokenizer = ClipTokenizer::openai().with_flavour(flavour);
            prop_assert_eq!(tokenizer.decode(&tokenizer.encode(&words)), format!("{words} "));
        }
        let trained = trained();
        prop_assert_eq!(trained.decode(&trained.encode(&words)), format!("{words} "));
    }

    #[test]
    fn any_text_and_any_ids_are_taken(text in any::<String>(), odd in "[&;#x0-9a-f<|>ÃÂâ€™œ\u{80}-\u{9f}\u{fffd} \n\u{1b}\\[]{0,40}", ids: Vec<u32>) {
        for flavour in FLAVOURS {
            let tokenizer = ClipTokenizer::openai().with_flavour(flavour);
            for text in [&text, &odd] {
                let known = tokenizer.encode(text);
                prop_assert!(known.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                tokenizer.decode(&known);
            }
            tokenizer.decode(&ids);
        }
    }
}
