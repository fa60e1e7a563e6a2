//! Answers of a closed list, ranked (`rank_answer` in salesforce/BLIP `models/blip_vqa.py`, salesforce/ALBEF
//! `models/model_vqa.py`).

use tuwen_nn::Pass;
use tuwen_tensor::{Tensor, ops};

use super::{BertDecoder, DecoderCache, EncoderStates};
use crate::TokenIds;

/// Whose scores answers get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankRules {
    /// BLIP's: with the label smoothing of its training.
    Blip,
    /// ALBEF's: the probability of the first token counts once more.
    Albef,
}

impl RankRules {
    /// Part of the probability that the score spreads over all tokens.
    fn label_smoothing(self) -> f64 {
        if self == Self::Blip { 0.1 } else { 0.0 }
    }
}

/// The best answers to a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// Numbers of the candidates, by the probability of their first token, the most probable first.
    pub candidates: Vec<usize>,
    /// For each of these, minus its cross entropy summed over its tokens: the greatest is the answer.
    pub scores: Vec<f32>,
}

impl Ranking {
    /// The number of the candidate with the greatest score; `None` for an empty list.
    pub fn best(&self) -> Option<usize> {
        let pairs = self.candidates.iter().zip(&self.scores);
        let greater = |a: (usize, f32), b: (usize, f32)| if b.1 > a.1 { b } else { a };
        pairs.map(|(&candidate, &score)| (candidate, score)).reduce(greater).map(|(best, _)| best)
    }

    /// The candidates with the part that each has in the probability of all of them, the most probable first.
    pub fn probabilities(&self) -> Vec<(usize, f32)> {
        let mut pairs: Vec<(usize, f32)> =
            self.candidates.iter().copied().zip(self.scores.iter().copied()).collect();
        pairs.sort_by(|a, b| b.1.total_cmp(&a.1));
        let greatest = pairs.first().map_or(0.0, |(_, score)| *score);
        pairs.iter_mut().for_each(|(_, score)| *score = (*score - greatest).exp());
        let sum: f32 = pairs.iter().map(|(_, part)| part).sum();
        pairs.iter_mut().for_each(|(_, part)| *part /= sum);
        pairs
    }
}

impl BertDecoder {
    /// Ranks candidates for each question: start, answer, `[SEP]`, padding, in rows with a mask. Those `limit` with the
    /// most probable first token are scored as a whole.
    pub fn rank(
        &self,
        questions: &EncoderStates,
        candidates: &TokenIds,
        limit: usize,
        rules: RankRules,
    ) -> Vec<Ranking> {
        let probabilities = self.first_token_probabilities(questions, candidates);
        let rows = probabilities.chunks_exact(candidates.batch().max(1));
        rows.zip(0..)
            .map(|(probabilities, question)| {
                let mut order: Vec<usize> = (0..probabilities.len()).collect();
                order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
                order.truncate(limit);
                let mut scores = scores(self, &questions.select(&[question]), candidates, &order, rules);
                if rules == RankRules::Albef {
                    let first = order.iter().map(|&candidate| probabilities[candidate].ln());
                    scores.iter_mut().zip(first).for_each(|(score, first)| *score += first);
                }
                Ranking { candidates: order, scores }
            })
            .collect()
    }

    /// The probability that an answer to a question begins as a candidate does: `[questions, candidates]`, row by row.
    pub fn first_token_probabilities(&self, questions: &EncoderStates, candidates: &TokenIds) -> Vec<f32> {
        let Some(&start) = candidates.ids.first() else { return Vec::new() };
        let start = TokenIds { ids: vec![start; questions.batch()], length: 1, attention_mask: None };
        let logits = self.step(&start, questions, &mut DecoderCache::default());
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
    rules: RankRules,
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
    log_likelihoods(&logits, &texts, rules.label_smoothing())
}

/// Minus the label-smoothed cross entropy of each text, summed over its tokens but the first and padding.
fn log_likelihoods(logits: &Tensor, texts: &TokenIds, smoothing: f64) -> Vec<f32> {
    let [rows, length, vocabulary] = logits.dims();
    let values = logits.to_vec();
    let token = |row: usize, at: usize| {
        let index = row * length + at;
        let seen = texts.attention_mask.as_ref().is_none_or(|mask| mask[index + 1]);
        let logits = &values[index * vocabulary..][..vocabulary];
        if seen { log_likelihood(logits, texts.ids[index + 1] as usize, smoothing) } else { 0.0 }
    };
    (0..rows).map(|row| (0..length.saturating_sub(1)).map(|at| token(row, at)).sum::<f64>() as f32).collect()
}

fn log_likelihood(logits: &[f32], target: usize, smoothing: f64) -> f64 {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - greatest).exp()).sum();
    let log_sum = f64::from(greatest) + sum.ln();
    let mean: f64 = logits.iter().map(|&logit| f64::from(logit)).sum::<f64>() / logits.len() as f64;
    (1.0 - smoothing) * f64::from(logits[target]) + smoothing * mean - log_sum
}
