//! What a decoder is trained by: the cross entropy of the token after each.

use tuwen_nn::Pass;
use tuwen_tensor::{Targets, Tensor, ops};

use super::{BertDecoder, EncoderStates};
use crate::TokenIds;

/// Which tokens of texts a decoder has to predict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextTokens {
    /// Places in `[batch, tokens]` of the tokens before them.
    pub places: Vec<u32>,
    /// The tokens.
    pub ids: Vec<u32>,
    /// The text of each.
    pub rows: Vec<u32>,
}

impl NextTokens {
    /// All tokens but padding and the first `given` of each text: one, or as many as a prompt has with what it begins with.
    pub fn of(texts: &TokenIds, given: usize) -> Self {
        let mut next = Self::default();
        let seen = |index: usize| texts.attention_mask.as_ref().is_none_or(|mask| mask[index]);
        for row in 0..texts.batch() {
            for at in given.max(1)..texts.length {
                let index = row * texts.length + at;
                if seen(index) {
                    next.places.push(index as u32 - 1);
                    next.ids.push(texts.ids[index]);
                    next.rows.push(row as u32);
                }
            }
        }
        next
    }
}

impl BertDecoder {
    /// The cross entropy of the next tokens of texts `[batch, tokens]` about `states`, summed with a weight for each text;
    /// the part `label_smoothing` of each target is shared among all tokens. Only what is predicted goes through the head.
    pub fn loss(
        &self,
        texts: &TokenIds,
        states: &EncoderStates,
        next: &NextTokens,
        weights: &[f32],
        label_smoothing: f32,
        pass: &Pass,
    ) -> Tensor {
        let logits = self.next_logits(texts, states, next, pass);
        let targets = Targets::Smoothed(&next.ids, label_smoothing);
        let weights: Vec<f32> = next.rows.iter().map(|&row| weights[row as usize]).collect();
        ops::weighted_cross_entropy(&logits, targets, &weights)
    }

    /// Logits of the next tokens of texts `[batch, tokens]` about `states`: `[next tokens, vocab_size]`.
    pub fn next_logits(
        &self,
        texts: &TokenIds,
        states: &EncoderStates,
        next: &NextTokens,
        pass: &Pass,
    ) -> Tensor {
        let hidden = self.bert().forward_causal(texts, std::slice::from_ref(states), pass);
        let [rows, length, width] = hidden.dims();
        self.logits(&ops::gather_rows(&hidden.reshape(&[rows * length, width]), &next.places))
    }
}
