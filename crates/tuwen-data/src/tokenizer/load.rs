//! Reading tokenizers from files, which may be hostile.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;

use super::openai_vocabulary::OPENAI_MERGES;
use super::symbols::{END_OF_WORD, byte_tokens};
use super::vocabulary::{OPEN_CLIP_SPECIAL, OPENAI_SPECIAL, Vocabulary};
use super::{ClipTokenizer, Flavour, TokenizerError, VocabularyError};
use crate::files::read_limited;

/// A file may have this many bytes, unpacked; CLIP's largest has 4 million.
const MAX_BYTES: u64 = 64 << 20;

/// What a file holds or why it cannot be used.
type Parsed<T> = Result<T, String>;

/// A vocabulary before it is checked: the id of each token, and the merges in the order of their ranks.
type Parts = (HashMap<String, u32>, Vec<(String, String)>);

impl ClipTokenizer {
    /// Reads the first of these in `directory`: `tokenizer.json`, `vocab.json` with `merges.txt` (both from
    /// transformers), `bpe_simple_vocab_16e6.txt.gz` or `bpe_simple_vocab_16e6.txt` (OpenAI's). Of `tokenizer.json`
    /// only vocabulary and merges are used: what happens to a text before is up to `flavour`.
    ///
    /// # Errors
    /// [`TokenizerError::NotFound`] if none is there; else a file that cannot be read or makes no CLIP tokenizer.
    pub fn from_directory(directory: &Path, flavour: Flavour) -> Result<Self, TokenizerError> {
        Self::from_files(directory, flavour, read_file)
    }

    /// As [`ClipTokenizer::from_directory`], with files that `open` gives: those inside a program, for instance.
    ///
    /// # Errors
    /// The same; a file is not there if `open` says so.
    pub fn from_files(
        directory: &Path,
        flavour: Flavour,
        open: impl Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Self, TokenizerError> {
        type Parse = fn(&[u8]) -> Parsed<Parts>;
        let files: [(&str, Parse); 4] = [
            ("tokenizer.json", parse_tokenizer),
            ("vocab.json", parse_vocabulary),
            ("bpe_simple_vocab_16e6.txt.gz", |bytes| parse_openai(&unpack(bytes)?)),
            ("bpe_simple_vocab_16e6.txt", parse_openai),
        ];
        for (name, parse) in files {
            let path = directory.join(name);
            let Some((ids, mut merges)) = read(&path, &open, parse)? else { continue };
            if name == "vocab.json" {
                let path = directory.join("merges.txt");
                let Some(read) = read(&path, &open, |bytes| parse_merges(bytes, usize::MAX))? else {
                    continue;
                };
                merges = read;
            }
            let vocabulary = Vocabulary::new(ids, merges).map_err(|e| {
                let of_merges = matches!(
                    e,
                    VocabularyError::UnknownInMerge { .. } | VocabularyError::DuplicateMerge { .. }
                );
                let path =
                    if name == "vocab.json" && of_merges { directory.join("merges.txt") } else { path };
                TokenizerError::Format { path, reason: e.to_string() }
            })?;
            return Ok(Self::new(vocabulary, flavour));
        }
        Err(TokenizerError::NotFound(directory.to_owned()))
    }
}

/// Reads and parses a file, or tells with `None` that there is none.
fn read<T>(
    path: &Path,
    open: impl Fn(&Path) -> io::Result<Vec<u8>>,
    parse: impl Fn(&[u8]) -> Parsed<T>,
) -> Result<Option<T>, TokenizerError> {
    let bytes = match open(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(TokenizerError::Io { path: path.to_owned(), source }),
    };
    parse(&bytes).map(Some).map_err(|reason| TokenizerError::Format { path: path.to_owned(), reason })
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Asked before opening, which would wait for the writer of a pipe.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    read_limited(File::open(path)?, MAX_BYTES)
}

fn unpack(bytes: &[u8]) -> Parsed<Vec<u8>> {
    read_limited(GzDecoder::new(bytes), MAX_BYTES).map_err(|e| format!("cannot be unpacked: {e}"))
}

fn parse_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Parsed<T> {
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}

fn parse_vocabulary(bytes: &[u8]) -> Parsed<Parts> {
    Ok((parse_json(bytes)?, Vec::new()))
}

/// The part of `tokenizer.json` that is looked at. (The `tokenizers` library panics at some models.)
#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    end_of_word_suffix: Option<String>,
    continuing_subword_prefix: Option<String>,
}

/// Newer files hold pairs, older ones `left right`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

fn parse_tokenizer(bytes: &[u8]) -> Parsed<Parts> {
    let TokenizerFile { added_tokens, model } = parse_json(bytes)?;
    if model.end_of_word_suffix.as_deref() != Some(END_OF_WORD) {
        return Err(format!(
            "model.end_of_word_suffix: expected {END_OF_WORD:?}, got {:?}",
            model.end_of_word_suffix
        ));
    }
    if let Some(prefix) = model.continuing_subword_prefix.filter(|prefix| !prefix.is_empty()) {
        return Err(format!("model.continuing_subword_prefix: expected none, got {prefix:?}"));
    }
    let mut ids = model.vocab;
    for AddedToken { id, content } in added_tokens {
        let is_special =
            OPENAI_SPECIAL.into_iter().chain(OPEN_CLIP_SPECIAL).any(|special| special == content);
        match ids.get(&content) {
            Some(&known) if known != id => {
                return Err(format!("token {content:?} has the ids {known} and {id}"));
            }
            None if !is_special => return Err(format!("added token {content:?} is none of CLIP's")),
            _ => ids.insert(content, id),
        };
    }
    let merges = model.merges.into_iter().zip(1..).map(|(merge, number)| match merge {
        Merge::Pair(left, right) => Ok((left, right)),
        Merge::Line(line) => {
            parse_merge(&line).ok_or_else(|| format!("merge {number}: expected two tokens, got {line:?}"))
        }
    });
    Ok((ids, merges.collect::<Parsed<_>>()?))
}

/// OpenAI's file holds more merges than its models use.
fn parse_openai(bytes: &[u8]) -> Parsed<Parts> {
    let merges = parse_merges(bytes, OPENAI_MERGES)?;
    let mut tokens = byte_tokens();
    tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    tokens.extend(OPENAI_SPECIAL.map(str::to_owned));
    let ids: HashMap<String, u32> = tokens.into_iter().zip(0..).collect();
    Ok((ids, merges))
}

/// Lines of two tokens; the first line may be a remark about the version.
fn parse_merges(bytes: &[u8], limit: usize) -> Parsed<Vec<(String, String)>> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("not UTF-8: {e}"))?;
    let lines = text.lines().zip(1..).filter(|&(line, number)| {
        let remark = number == 1 && (line.starts_with("#version") || line.starts_with("\"bpe_simple_vocab"));
        !remark && !line.is_empty()
    });
    let merge = |(line, number)| {
        parse_merge(line).ok_or_else(|| format!("line {number}: expected two tokens, got {line:?}"))
    };
    lines.take(limit).map(merge).collect()
}

fn parse_merge(line: &str) -> Option<(String, String)> {
    let (left, right) = line.trim_end().split_once(' ')?;
    (!left.is_empty() && !right.is_empty() && !right.contains(' '))
        .then(|| (left.to_owned(), right.to_owned()))
}
