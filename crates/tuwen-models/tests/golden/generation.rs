//! The choice of tokens by tables in place of a network, compared with transformers.

use std::fs;

use serde_json::Value;
use tuwen_models::TokenIds;
use tuwen_models::generate::{
    EarlyStopping, GenerationConfig, Processor, Sequences, Silent, Start, generate,
};
use tuwen_tensor::Tensor;
use tuwen_tensor::checkpoint::{TensorSource, open};

use crate::golden::case;

/// A language model: the logits after position n are those of table n mod 3 for the last two tokens.
struct Table {
    values: Vec<f32>,
    vocabulary: usize,
    rows: Vec<Vec<u32>>,
}

impl Sequences for Table {
    fn step(&mut self, tokens: &TokenIds) -> Tensor {
        let mut logits = Vec::new();
        for (i, row) in self.rows.iter_mut().enumerate() {
            row.extend(tokens.row(i));
            let (last, size) = (row.len() - 1, self.vocabulary);
            let before = if last == 0 { 0 } else { row[last - 1] as usize };
            let cell = ((last % 3) * size + before) * size + row[last] as usize;
            logits.extend(&self.values[cell * size..][..size]);
        }
        Tensor::new(&logits, &[self.rows.len(), self.vocabulary])
    }

    fn select(&mut self, rows: &[u32]) {
        self.rows = rows.iter().map(|&row| self.rows[row as usize].clone()).collect();
    }

    fn max_length(&self) -> usize {
        100
    }
}

fn config_of(recorded: &Value) -> GenerationConfig {
    let count = |name: &str| recorded[name].as_u64().unwrap_or(0) as usize;
    let number = |name: &str| recorded[name].as_f64().unwrap_or(1.0) as f32;
    GenerationConfig {
        num_beams: count("num_beams"),
        num_return_sequences: count("num_beams"),
        length_penalty: number("length_penalty"),
        early_stopping: match &recorded["early_stopping"] {
            Value::Bool(true) => EarlyStopping::True,
            Value::String(_) => EarlyStopping::Never,
            _ => EarlyStopping::False,
        },
        max_new_tokens: Some(count("max_new_tokens")),
        repetition_penalty: number("repetition_penalty"),
        no_repeat_ngram_size: count("no_repeat_ngram_size"),
        min_length: count("min_length"),
        min_new_tokens: count("min_new_tokens"),
        eos_token_ids: vec![2],
        ..GenerationConfig::default()
    }
}

#[test]
fn beams_over_a_table() {
    let Some(folder) = case("beam-search") else { return };
    let inputs = open(&folder.join("inputs.safetensors")).expect("inputs");
    let table = inputs.read("table").expect("table");
    let prompts = inputs.read("prompts").expect("prompts").to_i64().expect("ids");
    let start = |ids: &[i64]| Start { prompt: ids.iter().map(|&id| id as u32).collect(), stream: 0 };
    let starts: Vec<Start> = prompts.chunks_exact(2).map(start).collect();
    let cases: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("cases.json")).expect("cases")).expect("JSON");
    for recorded in cases.as_array().expect("cases") {
        let config = config_of(recorded);
        let mut model =
            Table { values: table.to_f32(), vocabulary: table.shape[1], rows: vec![Vec::new(); 3] };
        let texts = generate(&mut model, &starts, &config, &mut Silent).expect("writes");
        for expected in recorded["hypotheses"].as_array().expect("hypotheses") {
            let number = |name: &str| expected[name].as_u64().expect("a number") as usize;
            let text = &texts[number("prompt")][number("rank")];
            let ids: Vec<u32> = expected["new_ids"]
                .as_array()
                .expect("ids")
                .iter()
                .map(|id| id.as_u64().expect("id") as u32)
                .collect();
            let what = format!("{config:?}: {expected}");
            assert_eq!(text.ids, ids, "{what}");
            if let Some(score) = expected["score"].as_f64() {
                assert!((f64::from(text.score) - score).abs() <= 1e-5, "{} {what}", text.score);
            }
        }
    }
}

/// The chain that a name of a case describes: `chain_rep1.2_t0.8`, `min_length_12_eos4`, ...
fn chain(name: &str) -> Vec<Processor> {
    if let Some(rest) = name.strip_prefix("chain_") {
        return rest.split('_').map(link).collect();
    }
    let (kind, value) = name.rsplit_once('_').expect("a name");
    let number = || value.parse::<f32>().expect("a number");
    let min_kept = 1;
    vec![match kind {
        "temperature" => Processor::Temperature(number()),
        "top_k" => Processor::TopK { k: number() as usize, min_kept },
        "top_p" => Processor::TopP { p: number(), min_kept },
        "top_p_0.2" => Processor::TopP { p: 0.2, min_kept: 3 },
        "min_p" => Processor::MinP { p: number(), min_kept },
        "typical_p" => Processor::TypicalP { p: number(), min_kept },
        "repetition_penalty" => Processor::RepetitionPenalty(number()),
        "no_repeat_ngram" => Processor::NoRepeatNgram(number() as usize),
        "min_length_12" => Processor::MinLength { length: 12, eos: vec![4] },
        "min_length_11" => Processor::MinLength { length: 11, eos: vec![4] },
        "min_length_30_eos4" => Processor::MinLength { length: 30, eos: vec![4, 9] },
        "min_new_tokens_3_prompt9" => Processor::MinLength { length: 12, eos: vec![4] },
        "min_new_tokens_2_prompt9" => Processor::MinLength { length: 11, eos: vec![4] },
        "bad_words" => Processor::BadWords(vec![vec![3], vec![6, 2]]),
        "suppress_1_2" => Processor::Suppress(vec![1, 2, 30]),
        "forced_bos" => Processor::Forced { at: 1, id: 3 },
        "forced_eos_at_max_length" => Processor::Forced { at: 11, id: 4 },
        _ => panic!("no processor {name}"),
    }]
}

fn link(name: &str) -> Processor {
    let value = |kind: &str| name.strip_prefix(kind).and_then(|value| value.parse::<f32>().ok());
    if let Some(penalty) = value("rep") {
        Processor::RepetitionPenalty(penalty)
    } else if let Some(size) = value("ngram") {
        Processor::NoRepeatNgram(size as usize)
    } else if let Some(length) = value("min") {
        Processor::MinLength { length: length as usize, eos: vec![4] }
    } else if let Some(temperature) = value("t") {
        Processor::Temperature(temperature)
    } else if let Some(k) = value("k") {
        Processor::TopK { k: k as usize, min_kept: 1 }
    } else {
        Processor::TopP { p: value("p").expect("a link"), min_kept: 1 }
    }
}

#[test]
fn chains_of_processors() {
    let Some(folder) = case("sampling-params") else { return };
    let expected = open(&folder.join("expected.safetensors")).expect("expected");
    let cases: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("cases.json")).expect("cases")).expect("JSON");
    let read = |name: &str| expected.read(name).expect("recorded");
    let (logits, ids) = (read("logits"), read("input_ids").to_i64().expect("ids"));
    let vocabulary = logits.shape[1];
    for recorded in cases.as_array().expect("cases") {
        let name = recorded["name"].as_str().expect("a name");
        let (probabilities, kept) = (read(&format!("{name}.probs")).to_f32(), read(&format!("{name}.kept")));
        let kept = kept.to_i64().expect("flags");
        for row in 0..logits.shape[0] {
            let at = row * vocabulary..(row + 1) * vocabulary;
            let ids: Vec<u32> = ids[row * 11..][..11].iter().map(|&id| id as u32).collect();
            let mut scores = logits.to_f32()[at.clone()].to_vec();
            chain(name).iter().for_each(|processor| processor.apply(&ids, &mut scores));
            let mut got = tuwen_tensor::ops::softmax(&Tensor::new(&scores, &[1, vocabulary])).to_vec();
            let mut expected = probabilities[at.clone()].to_vec();
            let ties = recorded["rows_with_a_tie_at_the_cut"].as_array().expect("rows");
            if ties.iter().any(|tie| tie.as_u64() == Some(row as u64)) {
                got.sort_by(f32::total_cmp);
                expected.sort_by(f32::total_cmp);
            } else {
                let ours: Vec<i64> = scores.iter().map(|score| i64::from(score.is_finite())).collect();
                assert_eq!(ours, kept[at], "{name} {row}");
            }
            for (got, expected) in got.iter().zip(&expected) {
                assert!((got - expected).abs() <= 1e-6, "{name} {row}: {got} {expected}");
            }
        }
    }
}
