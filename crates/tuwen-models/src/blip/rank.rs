//! Answers of a closed list, ranked (salesforce/BLIP `models/blip_vqa.py`, `rank_answer`).

use tuwen_nn::Pass;
use tuwen_tensor::{Tensor, ops};

use super::Answerer;
use crate::TokenIds;
use crate::bert::{BertDecoder, DecoderCache, EncoderStates};

/// Part of the probability that the loss spreads over all tokens; scores are made with it too.
const LABEL_SMOOTHING: f32 = 0.1;

/// The best answers to a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// Numbers of the candidates, by the probability of their first token, the most probable first.
    pub candidates: Vec<usize>,
    /// For each of these, minus the label-smoothed cross entropy summed over its tokens: the greatest is the answer.
    pub scores: Vec<f32>,
}

impl Ranking {
    /// The number of the candidate with the greatest score; `None` for an empty list.
    pub fn best(&self) -> Option<usize> {
        let pairs = self.candidates.iter().zip(&self.scores);
        let greater = |a: (usize, f32), b: (usize, f32)| if b.1 > a.1 { b } else { a };
        pairs.map(|(&candidate, &score)| (candidate, score)).reduce(greater).map(|(best, _)| best)
    }
}

impl Answerer<'_> {
    /// Ranks candidates for each question: `[DEC]`, answer, `[SEP]`, padding, in rows with a mask. Those `limit` with the most
    /// probable first token are scored as a whole.
    pub fn rank(&self, questions: &EncoderStates, candidates: &TokenIds, limit: usize) -> Vec<Ranking> {
        let probabilities = self.first_token_probabilities(questions, candidates);
        let rows = probabilities.chunks_exact(candidates.batch().max(1));
        rows.zip(0..)
            .map(|(probabilities, question)| {
                let mut order: Vec<usize> = (0..probabilities.len()).collect();
                order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
                order.truncate(limit);
                let scores = scores(self.text_decoder, &questions.select(&[question]), candidates, &order);
                Ranking { candidates: order, scores }
            })
            .collect()
    }

    /// The probability that an answer to a question begins as a candidate does: `[questions, candidates]`, row by row.
    pub fn first_token_probabilities(&self, questions: &EncoderStates, candidates: &TokenIds) -> Vec<f32> {
        let Some(&start) = candidates.ids.first() else { return Vec::new() };
        let start = TokenIds { ids: vec![start; questions.batch()], length: 1, attention_mask: None };
        let logits = self.text_decoder.step(&start, questions, &mut DecoderCache::default());
        let (probabilities, vocabulary) = (ops::softmax(&logits).to_vec(), logits.last_dim());
        let first = |row: usize| candidates.row(row)[1] as usize;
        let of_question = |row: &[f32]| (0..candidates.batch()).map(|i| row[first(i)]).collect::<Vec<_>>();
        probabilities.chunks_exact(vocabulary).flat_map(of_question).collect()
    }
}

/// Scores of some candidates for one question.
fn scores(
    decoder: &BertDecoder,
    question: &EncoderStates,
    candidates: &TokenIds,
    chosen: &[usize],
) -> Vec<f32> {
    let length = candidates.length;
    let rows = |of: &dyn Fn(usize) -> Vec<bool>| chosen.iter().flat_map(|&row| of(row)).collect();
    let mask = candidates.attention_mask.as_ref();
    let texts = TokenIds {
        ids: chosen.iter().flat_map(|&row| candidates.row(row).iter().copied()).collect(),
        length,
        attention_mask: mask.map(|mask| rows(&|row| mask[row * length..][..length].to_vec())),
    };
    let logits = decoder.forward(&texts, question, &Pass::eval());
    smoothed_log_likelihoods(&logits, &texts)
}

/// Minus the label-smoothed cross entropy of each text, summed over its tokens but the first and padding.
fn smoothed_log_likelihoods(logits: &Tensor, texts: &TokenIds) -> Vec<f32> {
    let [rows, length, vocabulary] = logits.dims();
    let values = logits.to_vec();
    let token = |row: usize, at: usize| {
        let index = row * length + at;
        let seen = texts.attention_mask.as_ref().is_none_or(|mask| mask[index + 1]);
        let logits = &values[index * vocabulary..][..vocabulary];
        if seen { smoothed_log_likelihood(logits, texts.ids[index + 1] as usize) } else { 0.0 }
    };
    (0..rows).map(|row| (0..length.saturating_sub(1)).map(|at| token(row, at)).sum::<f64>() as f32).collect()
}

fn smoothed_log_likelihood(logits: &[f32], target: usize) -> f64 {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - greatest).exp()).sum();
    let log_sum = f64::from(greatest) + sum.ln();
    let mean: f64 = logits.iter().map(|&logit| f64::from(logit)).sum::<f64>() / logits.len() as f64;
    let epsilon = f64::from(LABEL_SMOOTHING);
    (1.0 - epsilon) * f64::from(logits[target]) + epsilon * mean - log_sum
}
