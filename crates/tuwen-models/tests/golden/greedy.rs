//! The most probable token, again and again, by a decoder that keeps what it has seen.

use tuwen_models::TokenIds;
use tuwen_models::bert::{BertDecoder, DecoderCache, EncoderStates};

use crate::support::Golden;

const SEP: u32 = 102;

/// Compares what is written with the recorded ids, in rows that end with `[SEP]` or at `max_length` and are padded with 0.
pub fn greedy(
    golden: &Golden,
    decoder: &BertDecoder,
    states: &EncoderStates,
    start: &[Vec<u32>],
    name: &str,
    max_length: usize,
) {
    let (mut rows, mut ended) = (start.to_vec(), vec![false; start.len()]);
    let mut cache = DecoderCache::default();
    let mut next = TokenIds { ids: start.concat(), length: start[0].len(), attention_mask: None };
    while rows[0].len() < max_length && !ended.iter().all(|&ended| ended) {
        let logits = decoder.step(&next, states, &mut cache);
        let values = logits.to_vec();
        let best = values.chunks_exact(logits.last_dim()).map(|row| {
            let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            best.expect("a vocabulary").0 as u32
        });
        next.ids = best.zip(&ended).map(|(id, &ended)| if ended { 0 } else { id }).collect();
        next.length = 1;
        for ((row, ended), &id) in rows.iter_mut().zip(&mut ended).zip(&next.ids) {
            row.push(id);
            *ended |= id == SEP;
        }
    }
    let got: Vec<i64> = rows.concat().into_iter().map(i64::from).collect();
    assert_eq!(got, golden.expected_integers(name), "{}: {name}", golden.name);
}
