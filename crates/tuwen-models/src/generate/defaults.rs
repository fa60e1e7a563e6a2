//! Settings that a model brings with it: transformers' `generation_config.json`, and what its older versions keep in
//! `config.json`.

use serde_json::{Map, Value};

use super::values::{above_zero, count, flag, fraction, id, ids, number, share, words};
use super::{EarlyStopping, GenerationConfig};
use crate::ConfigError;

/// Keys that have no part here, with the value that changes no text.
const OTHERS: [(&str, &str); 18] = [
    ("num_beam_groups", "1"),
    ("diversity_penalty", "0.0"),
    ("penalty_alpha", "0.0"),
    ("epsilon_cutoff", "0.0"),
    ("eta_cutoff", "0.0"),
    ("top_h", "null"),
    ("encoder_repetition_penalty", "1.0"),
    ("encoder_no_repeat_ngram_size", "0"),
    ("begin_suppress_tokens", "null"),
    ("forced_bos_token_id", "null"),
    ("sequence_bias", "null"),
    ("force_words_ids", "null"),
    ("guidance_scale", "1.0"),
    ("exponential_decay_length_penalty", "null"),
    ("renormalize_logits", "false"),
    ("stop_strings", "null"),
    ("max_time", "null"),
    ("dola_layers", "null"),
];
/// Tokens that BLIP sets itself, whatever is said of them.
const SPECIAL: [&str; 3] = ["bos_token_id", "eos_token_id", "pad_token_id"];
/// `eos_token_id` of transformers' BLIP classes, which means nothing.
const LEFTOVER: u32 = 2;
/// What transformers 4 writes into every `config.json`: said, but not meant.
const UNSET: [(&str, &str); 12] = [
    ("max_length", "20"),
    ("min_length", "0"),
    ("do_sample", "false"),
    ("temperature", "1.0"),
    ("top_k", "50"),
    ("top_p", "1.0"),
    ("typical_p", "1.0"),
    ("num_beams", "1"),
    ("length_penalty", "1.0"),
    ("early_stopping", "false"),
    ("num_return_sequences", "1"),
    ("repetition_penalty", "1.0"),
];

/// What a network has room for, and how its texts end.
#[derive(Clone, Copy, Debug)]
pub struct GenerationLimits {
    /// Most tokens of a text.
    pub positions: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// The token that ends texts.
    pub eos: u32,
}

/// What a model's files say of how its texts are written. It goes over the settings of the program that a model is of.
///
/// transformers' own BLIP reads `generation_config.json` and hands nothing of it on to its decoder; its versions 4 heed what
/// the `text_config` of `config.json` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    said: Map<String, Value>,
    /// What would change texts and is not heeded, a line each.
    pub notes: Vec<String>,
}

impl GenerationDefaults {
    /// Reads `generation_config.json`.
    ///
    /// # Errors
    /// What is no JSON object, and values of the wrong type or out of range, by their keys.
    pub fn from_generation_json(text: &str, limits: &GenerationLimits) -> Result<Self, ConfigError> {
        Self::of(serde_json::from_str(text)?, limits)
    }

    /// Reads what `config.json` says of generation, in `text_config` before what stands beside it. What transformers 4 writes
    /// into every file says nothing.
    ///
    /// # Errors
    /// As [`GenerationDefaults::from_generation_json`].
    pub fn from_hf_json(text: &str, limits: &GenerationLimits) -> Result<Self, ConfigError> {
        let mut said: Map<String, Value> = serde_json::from_str(text)?;
        if let Some(Value::Object(texts)) = said.remove("text_config") {
            said.extend(texts.into_iter().filter(|(_, value)| !value.is_null()));
        }
        said.retain(|key, value| !SPECIAL.contains(&key.as_str()) && !is(&UNSET, key, value));
        Self::of(said, limits)
    }

    fn of(said: Map<String, Value>, limits: &GenerationLimits) -> Result<Self, ConfigError> {
        let mut defaults = Self::default();
        for (key, value) in said.into_iter().filter(|(_, value)| !value.is_null()) {
            let fault = |expected: String| ConfigError::unsupported(&key, &value, &expected);
            match set(&mut GenerationConfig::default(), &key, &value) {
                Some(read) => {
                    read.and_then(|()| within(&key, &value, limits)).map_err(fault)?;
                    defaults.said.insert(key, value);
                }
                None => defaults.notes.extend(left_out(&key, &value, limits).map_err(fault)?),
            }
        }
        Ok(defaults)
    }

    /// The same, with what `others` say besides.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        for (key, value) in others.said {
            self.said.entry(key).or_insert(value);
        }
        self.notes.extend(others.notes);
        self
    }

    /// These settings over those of a program.
    #[must_use]
    pub fn over(&self, mut own: GenerationConfig) -> GenerationConfig {
        for (key, value) in &self.said {
            // It was read before: nothing can be wrong with it.
            let _ = set(&mut own, key, value);
        }
        own
    }

    /// What is said, by transformers' keys.
    pub fn as_json(&self) -> &Map<String, Value> {
        &self.said
    }
}

/// Sets what a key says; `None` for one that is no setting here, and for what is wrong what was expected.
fn set(config: &mut GenerationConfig, key: &str, value: &Value) -> Option<Result<(), String>> {
    fn put<T>(place: &mut T, read: Result<T, String>) -> Result<(), String> {
        read.map(|read| *place = read)
    }
    Some(match key {
        "max_length" => put(&mut config.max_length, count(value, 1).map(Some)),
        "max_new_tokens" => put(&mut config.max_new_tokens, count(value, 1).map(Some)),
        "min_length" => put(&mut config.min_length, count(value, 0)),
        "min_new_tokens" => put(&mut config.min_new_tokens, count(value, 0)),
        "do_sample" => put(&mut config.do_sample, flag(value)),
        "temperature" => put(&mut config.temperature, above_zero(value)),
        "top_k" => put(&mut config.top_k, count(value, 0)),
        "top_p" => put(&mut config.top_p, share(value)),
        "min_p" => put(&mut config.min_p, fraction(value)),
        "typical_p" => put(&mut config.typical_p, share(value)),
        "num_beams" => put(&mut config.num_beams, count(value, 1)),
        "length_penalty" => put(&mut config.length_penalty, number(value)),
        "early_stopping" => put(&mut config.early_stopping, early_stopping(value)),
        "num_return_sequences" => put(&mut config.num_return_sequences, count(value, 1)),
        "repetition_penalty" => put(&mut config.repetition_penalty, above_zero(value)),
        "no_repeat_ngram_size" => put(&mut config.no_repeat_ngram_size, count(value, 0)),
        "bad_words_ids" => put(&mut config.bad_words_ids, words(value)),
        "suppress_tokens" => put(&mut config.suppress_tokens, ids(value)),
        "forced_eos_token_id" => put(&mut config.forced_eos_token_id, id(value).map(Some)),
        _ => return None,
    })
}

fn early_stopping(value: &Value) -> Result<EarlyStopping, String> {
    match value {
        Value::Bool(true) => Ok(EarlyStopping::True),
        Value::Bool(false) => Ok(EarlyStopping::False),
        Value::String(word) if word == "never" => Ok(EarlyStopping::Never),
        _ => Err("expected true, false or \"never\"".to_owned()),
    }
}

/// Whether the network has room for so many tokens, and has these tokens.
fn within(key: &str, value: &Value, limits: &GenerationLimits) -> Result<(), String> {
    if key.ends_with("_length") || key.ends_with("_new_tokens") {
        return match count(value, 0) {
            Ok(tokens) if tokens > limits.positions => {
                Err(format!("expected at most {}, the positions of the network", limits.positions))
            }
            _ => Ok(()),
        };
    }
    let named: Vec<u32> = match key {
        "bad_words_ids" => words(value)?.concat(),
        "suppress_tokens" => ids(value)?,
        "forced_eos_token_id" => vec![id(value)?],
        _ => Vec::new(),
    };
    match named.iter().find(|&&id| id as usize >= limits.vocab_size) {
        Some(id) => Err(format!("the vocabulary has {} tokens, no token {id}", limits.vocab_size)),
        None => Ok(()),
    }
}

/// What is to be said of a key that is no setting here, if it would change texts.
fn left_out(key: &str, value: &Value, limits: &GenerationLimits) -> Result<Option<String>, String> {
    if SPECIAL.contains(&key) {
        let named = ids(value).or_else(|_| id(value).map(|id| vec![id]))?;
        let means = key == "eos_token_id" && !named.contains(&limits.eos) && named != [LEFTOVER];
        return Ok(means.then(|| {
            format!("{key} {value} is left aside, as in transformers: texts end with token {}", limits.eos)
        }));
    }
    let known = OTHERS.iter().any(|(name, _)| *name == key);
    let empty = value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
    let changes = known && !empty && !is(&OTHERS, key, value);
    Ok(changes.then(|| format!("{key} {value} is left aside: there is no such setting here")))
}

/// Whether a table has this value for a key; numbers are equal however they are written.
fn is(table: &[(&str, &str)], key: &str, value: &Value) -> bool {
    let Some((_, text)) = table.iter().find(|(name, _)| *name == key) else { return false };
    match value.as_f64() {
        Some(number) => text.parse() == Ok(number),
        None => serde_json::from_str::<Value>(text).is_ok_and(|neutral| neutral == *value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GenerationLimits = GenerationLimits { positions: 64, vocab_size: 200, eos: 102 };

    fn read(text: &str) -> Result<GenerationDefaults, ConfigError> {
        GenerationDefaults::from_generation_json(text, &LIMITS)
    }

    #[test]
    fn what_is_said_goes_over_a_program_s_settings() {
        let said = r#"{"max_length": 12, "num_beams": 4, "repetition_penalty": 1.5, "early_stopping": "never",
            "bad_words_ids": [[7, 8], [9]], "length_penalty": -1, "top_k": null, "use_cache": true, "invented": 3}"#;
        let defaults = read(said).expect("read");
        let own = GenerationConfig { min_length: 5, num_beams: 3, top_k: 50, ..GenerationConfig::default() };
        let expected = GenerationConfig {
            max_length: Some(12),
            num_beams: 4,
            repetition_penalty: 1.5,
            early_stopping: EarlyStopping::Never,
            bad_words_ids: vec![vec![7, 8], vec![9]],
            length_penalty: -1.0,
            ..own.clone()
        };
        assert_eq!(defaults.over(own.clone()), expected);
        assert!(defaults.notes.is_empty(), "{:?}", defaults.notes);
        assert_eq!(GenerationDefaults::default().over(own.clone()), own);
    }

    #[test]
    fn older_files_say_in_the_text_s_configuration_what_is_meant() {
        let config = r#"{"model_type": "blip", "num_beams": 2, "min_length": 4, "text_config": {"num_beams": 5,
            "max_length": 20, "temperature": 1.0, "eos_token_id": 2, "hidden_size": 8, "top_k": 50, "min_length": null}}"#;
        let defaults = GenerationDefaults::from_hf_json(config, &LIMITS).expect("read");
        let set = defaults.over(GenerationConfig::default());
        let expected = GenerationConfig { num_beams: 5, min_length: 4, ..GenerationConfig::default() };
        assert_eq!(set, expected);
        let both = read(r#"{"num_beams": 3}"#).expect("read").or(defaults);
        assert_eq!(both.over(GenerationConfig::default()), GenerationConfig { num_beams: 3, ..expected });
    }

    #[test]
    fn what_would_change_texts_and_is_not_heeded_is_noted() {
        let quiet = r#"{"_from_model_config": true, "bos_token_id": 171, "eos_token_id": 2, "pad_token_id": 0,
            "num_beam_groups": 1, "diversity_penalty": 0, "guidance_scale": 1, "stop_strings": [],
            "transformers_version": "5.23.0", "output_attentions": false, "renormalize_logits": false}"#;
        assert_eq!(read(quiet).expect("read"), GenerationDefaults::default());
        for (text, expected) in [
            (r#"{"num_beam_groups": 2}"#, "num_beam_groups 2 is left aside"),
            (r#"{"stop_strings": ["."]}"#, r#"stop_strings ["."] is left aside"#),
            (
                r#"{"eos_token_id": [7]}"#,
                "eos_token_id [7] is left aside, as in transformers: texts end with token 102",
            ),
        ] {
            let notes = read(text).expect("read").notes;
            assert!(notes.len() == 1 && notes[0].contains(expected), "{notes:?}");
        }
        assert!(read(r#"{"eos_token_id": [2, 102]}"#).expect("read").notes.is_empty());
    }

    #[test]
    fn garbage_is_named() {
        for (text, expected) in [
            ("[1]", "invalid type: sequence"),
            (r#"{"num_beams": "x"}"#, "num_beams is \"x\"; expected a whole number of at least 1"),
            (r#"{"num_beams": 0}"#, "num_beams is 0; expected a whole number of at least 1"),
            (r#"{"max_length": -3}"#, "max_length is -3; expected a whole number"),
            (r#"{"max_length": 65}"#, "max_length is 65; expected at most 64, the positions of the network"),
            (r#"{"max_new_tokens": 2.5}"#, "max_new_tokens is 2.5; expected a whole number"),
            (r#"{"temperature": 0}"#, "temperature is 0; expected a number above 0"),
            (r#"{"repetition_penalty": 1e400}"#, "number out of range"),
            (r#"{"top_p": 1.5}"#, "top_p is 1.5; expected a number above 0 and at most 1"),
            (r#"{"do_sample": "yes"}"#, "do_sample is \"yes\"; expected true or false"),
            (r#"{"early_stopping": 1}"#, "early_stopping is 1; expected true, false or \"never\""),
            (r#"{"bad_words_ids": [7]}"#, "bad_words_ids is [7]; expected a list of token ids in each"),
            (r#"{"suppress_tokens": [200]}"#, "the vocabulary has 200 tokens, no token 200"),
            (r#"{"eos_token_id": "end"}"#, "eos_token_id is \"end\"; expected a token id"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
