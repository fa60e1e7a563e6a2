//! Writing a tokenizer as the files that Hugging Face's transformers reads.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::Serializer;
use serde_json::json;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers, replace::ReplacePattern};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::text::HUGGING_FACE_WORD;
use super::vocabulary::{OPENAI_SPECIAL, Vocabulary, merges_of};
use super::{ClipTokenizer, TokenizerError};

impl ClipTokenizer {
    /// The files that [`ClipTokenizer::save`] writes.
    pub const FILES: [&str; 5] =
        ["vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

    /// Writes `vocab.json`, `merges.txt`, `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`
    /// into `directory`, which is made if it is not there. Each file is replaced at once, never half written.
    ///
    /// transformers reads them as its own `CLIPTokenizer`, that is as [`Flavour::HuggingFace`](super::Flavour).
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), TokenizerError> {
        let [start, end] = OPENAI_SPECIAL;
        let special = json!({"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end});
        let mut config = special.clone();
        config["tokenizer_class"] = json!("CLIPTokenizer");
        config["do_lower_case"] = json!(true);
        let merges =
            merges_of(&self.vocabulary.bpe).into_iter().map(|(left, right)| format!("{left} {right}\n"));
        let contents = [
            vocabulary_json(&self.vocabulary.tokens),
            Ok(format!("#version: 0.2\n{}", merges.collect::<String>())),
            tokenizer_json(&self.vocabulary).map_err(io::Error::other),
            Ok(format!("{config:#}\n")),
            Ok(format!("{special:#}\n")),
        ];
        fs::create_dir_all(directory)
            .map_err(|source| TokenizerError::Io { path: directory.to_owned(), source })?;
        for (name, content) in Self::FILES.into_iter().zip(contents) {
            let path = directory.join(name);
            content
                .and_then(|content| replace_file(&path, content.as_bytes()))
                .map_err(|source| TokenizerError::Io { path, source })?;
        }
        Ok(())
    }
}

/// The map from tokens to ids in the order of the ids.
fn vocabulary_json(tokens: &[String]) -> io::Result<String> {
    let mut json = Vec::new();
    serde_json::Serializer::new(&mut json).collect_map(tokens.iter().zip(0_u32..))?;
    String::from_utf8(json).map_err(io::Error::other)
}

fn tokenizer_json(vocabulary: &Vocabulary) -> tokenizers::Result<String> {
    let [start, end] = OPENAI_SPECIAL.map(str::to_owned);
    let mut bpe = vocabulary.bpe.clone();
    bpe.unk_token = Some(end.clone());
    let mut tokenizer = Tokenizer::new(bpe);
    let space = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")?;
    let pattern = SplitPattern::Regex(HUGGING_FACE_WORD.as_str().to_owned());
    let words = Split::new(pattern, SplitDelimiterBehavior::Removed, true)?;
    let bytes = ByteLevel::default().add_prefix_space(false);
    let around = RobertaProcessing::new((end.clone(), vocabulary.end), (start.clone(), vocabulary.start));
    tokenizer.with_normalizer(Some(Normalizers::new(vec![NFC.into(), space.into(), Lowercase.into()])))?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![words.into(), bytes.into()])));
    tokenizer.with_post_processor(Some(around.trim_offsets(false).add_prefix_space(false)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_special_tokens([start, end].map(|token| AddedToken::from(token, true)))?;
    tokenizer.to_string(false)
}

/// Writes a file beside its place and moves it there.
fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_added_extension(format!("{}.tmp", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    // The error that led here is the one to report.
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))
}
