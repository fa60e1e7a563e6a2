//! The tokenizer of a model, or why it has none.

use std::path::PathBuf;

use tuwen_data::tokenizer::{ClipTokenizer, Flavour, Overflow, TokenBatch, TokenizerError};
use tuwen_models::clip::{TextConfig, TextPooling};

use super::Origin;
use crate::Error;
use crate::place::Place;

/// Number of tokens of OpenAI's vocabulary, which most models share.
const OPENAI_VOCABULARY: usize = 49408;

/// A tokenizer, or where one was looked for: a model without can still read images.
pub struct Tokenizer {
    tokenizer: Option<ClipTokenizer>,
    directory: PathBuf,
    vocab_size: usize,
    context_length: usize,
}

impl Tokenizer {
    /// Reads the tokenizer's files; without any, a model of OpenAI's vocabulary has that.
    ///
    /// # Errors
    /// Files that make no tokenizer, or one of another model.
    pub(crate) fn read(place: &Place, origin: Origin, config: &TextConfig) -> Result<Self, Error> {
        let flavour = match origin {
            Origin::HuggingFace => Flavour::HuggingFace,
            Origin::OpenClip => Flavour::OpenClip,
            Origin::OpenAi => Flavour::OpenAi,
        };
        let directory = place.directory();
        let read = match place {
            Place::Directory(directory) => ClipTokenizer::from_directory(directory, flavour),
            Place::BuiltIn(_) => ClipTokenizer::from_files(directory, flavour, |path| place.bytes(path)),
        };
        let tokenizer = match read {
            Ok(tokenizer) => Some(tokenizer),
            Err(TokenizerError::NotFound(_)) => {
                let openai = config.vocab_size == OPENAI_VOCABULARY;
                openai.then(|| ClipTokenizer::openai().with_flavour(flavour))
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(problem) = tokenizer.as_ref().and_then(|tokenizer| contradiction(tokenizer, config)) {
            return Err(Error::WrongTokenizer { directory: directory.to_owned(), problem });
        }
        Ok(Self {
            tokenizer,
            directory: directory.to_owned(),
            vocab_size: config.vocab_size,
            context_length: config.max_position_embeddings,
        })
    }

    /// The tokenizer, where there is one.
    pub fn get(&self) -> Option<&ClipTokenizer> {
        self.tokenizer.as_ref()
    }

    /// Ids of texts, cut and padded to the length that the model takes.
    pub fn encode(&self, texts: &[impl AsRef<str>]) -> Result<TokenBatch, Error> {
        let tokenizer = self.tokenizer.as_ref().ok_or_else(|| Error::NoTokenizer {
            directory: self.directory.clone(),
            looked_for: "tokenizer.json, vocab.json with merges.txt",
            vocab_size: self.vocab_size,
        })?;
        Ok(tokenizer.encode_batch(texts, self.context_length, Overflow::Truncate)?)
    }
}

/// Why a tokenizer and a model do not belong together, if they do not.
fn contradiction(tokenizer: &ClipTokenizer, config: &TextConfig) -> Option<String> {
    let size = tokenizer.vocab_size();
    if size > config.vocab_size {
        return Some(format!("has {size} tokens, the model only {}", config.vocab_size));
    }
    match config.pooling {
        TextPooling::FirstEos(eos) if eos != tokenizer.end_id() => {
            Some(format!("ends texts with id {}, the model looks for {eos}", tokenizer.end_id()))
        }
        TextPooling::FirstEos(_) | TextPooling::LargestId => None,
    }
}
