//! Reading BERT's tokenizer from files, which may be hostile.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::BertTokenizer;
use crate::files::read_text;
use crate::tokenizer::TokenizerError;

/// A file may have this many bytes; BERT's have 230 and 710 thousand.
const MAX_BYTES: u64 = 64 << 20;

/// The part of `tokenizer.json` that is looked at.
#[derive(Deserialize)]
struct TokenizerJson {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct Model {
    r#type: Option<String>,
    vocab: HashMap<String, u32>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

impl BertTokenizer {
    /// Reads the first of these in `directory`: `vocab.txt`, or `tokenizer.json` of transformers, of which only the
    /// vocabulary is used.
    ///
    /// # Errors
    /// [`TokenizerError::NoVocabulary`] if neither is there; else a file that cannot be read or makes no tokenizer.
    pub fn from_directory(directory: &Path) -> Result<Self, TokenizerError> {
        Self::from_files(directory, |path| read_text(path, MAX_BYTES))
    }

    /// As [`BertTokenizer::from_directory`], with texts that `open` gives: those inside a program, for instance.
    ///
    /// # Errors
    /// The same; a file is not there if `open` says so.
    pub fn from_files(
        directory: &Path,
        open: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, TokenizerError> {
        type Parse = fn(&str) -> Result<BertTokenizer, String>;
        let files: [(&str, Parse); 2] =
            [("vocab.txt", Self::from_vocabulary), ("tokenizer.json", Self::from_tokenizer_json)];
        for (name, parse) in files {
            let path = directory.join(name);
            match open(&path) {
                Ok(text) => {
                    return parse(&text).map_err(|reason| TokenizerError::Format { path, reason });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(TokenizerError::Io { path, source }),
            }
        }
        Err(TokenizerError::NoVocabulary(directory.to_owned()))
    }

    /// Reads `vocab.txt`: a token a line, whose number from 0 is its id.
    ///
    /// # Errors
    /// A file that cannot be read, is no UTF-8, or lacks one of the five special tokens.
    pub fn from_vocabulary_file(path: &Path) -> Result<Self, TokenizerError> {
        let io = |source| TokenizerError::Io { path: path.to_owned(), source };
        let text = read_text(path, MAX_BYTES).map_err(io)?;
        Self::from_vocabulary(&text)
            .map_err(|reason| TokenizerError::Format { path: path.to_owned(), reason })
    }

    /// As [`BertTokenizer::from_vocabulary_file`], from the text of the file. Of a token that stands there twice the
    /// last one counts.
    ///
    /// # Errors
    /// What is missing, as one line.
    pub fn from_vocabulary(text: &str) -> Result<Self, String> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let line = |line: &str| line.strip_suffix('\r').unwrap_or(line).to_owned();
        Self::new(text.split('\n').map(line).collect())
    }

    /// From the text of a `tokenizer.json` of transformers.
    ///
    /// # Errors
    /// What is wrong with it, as one line.
    pub fn from_tokenizer_json(text: &str) -> Result<Self, String> {
        let TokenizerJson { model, added_tokens } =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        if let Some(kind) = model.r#type.filter(|kind| kind != "WordPiece") {
            return Err(format!("expected a WordPiece model, got {kind}"));
        }
        let added = added_tokens.into_iter().map(|token| (token.id, token.content));
        let by_id: BTreeMap<u32, String> =
            model.vocab.into_iter().map(|(token, id)| (id, token)).chain(added).collect();
        // Ids without a gap, as the numbers of lines are.
        if let Some((expected, _)) = (0..).zip(by_id.keys()).find(|(expected, id)| expected != *id) {
            return Err(format!("no token has id {expected}"));
        }
        Self::new(by_id.into_values().collect())
    }
}
