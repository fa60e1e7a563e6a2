//! The most probable token, again and again, by a decoder that keeps what it has seen.

use tuwen_models::TokenIds;
use tuwen_models::bert::{BertDecoder, DecoderCache, EncoderStates};

use crate::support::Golden;

const SEP: u32 = 102;

/// When texts end, in tokens with those that they begin with, and how likely tokens are that are there already.
pub struct Settings {
    pub max_length: usize,
    pub min_length: usize,
    /// Logits of ids that are there are divided by it, or multiplied where they are negative.
    pub repetition_penalty: f32,
}

impl Settings {
    pub fn up_to(max_length: usize) -> Self {
        Self { max_length, min_length: 0, repetition_penalty: 1.0 }
    }

    /// The most probable id after a row.
    fn next(&self, row: &[u32], logits: &[f32]) -> u32 {
        let score = |(id, &logit): (usize, &f32)| {
            let id = id as u32;
            let penalty = if row.contains(&id) { self.repetition_penalty } else { 1.0 };
            let logit = if logit < 0.0 { logit * penalty } else { logit / penalty };
            (id, if id == SEP && row.len() < self.min_length { f32::NEG_INFINITY } else { logit })
        };
        let best = logits.iter().enumerate().map(score).max_by(|a, b| a.1.total_cmp(&b.1));
        best.expect("a vocabulary").0
    }
}

/// Compares what is written with the recorded ids, in rows that end with `[SEP]` or at the greatest length and are padded
/// with 0.
pub fn greedy(
    golden: &Golden,
    decoder: &BertDecoder,
    states: &EncoderStates,
    start: &[Vec<u32>],
    name: &str,
    settings: &Settings,
) {
    let (mut rows, mut ended) = (start.to_vec(), vec![false; start.len()]);
    let mut cache = DecoderCache::default();
    let mut next = TokenIds { ids: start.concat(), length: start[0].len(), attention_mask: None };
    while rows[0].len() < settings.max_length && !ended.iter().all(|&ended| ended) {
        let logits = decoder.step(&next, states, &mut cache);
        let values = logits.to_vec();
        let logits = values.chunks_exact(logits.last_dim());
        let ids = rows.iter().zip(logits).map(|(row, logits)| settings.next(row, logits));
        next.ids = ids.zip(&ended).map(|(id, &ended)| if ended { 0 } else { id }).collect();
        next.length = 1;
        for ((row, ended), &id) in rows.iter_mut().zip(&mut ended).zip(&next.ids) {
            row.push(id);
            *ended |= id == SEP;
        }
    }
    let got: Vec<i64> = rows.concat().into_iter().map(i64::from).collect();
    assert_eq!(got, golden.expected_integers(name), "{}: {name}", golden.name);
}
