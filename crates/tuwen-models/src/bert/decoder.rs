//! A BERT that writes: causal, with a head that predicts the next token.

use tuwen_nn::{Pass, Scope};
use tuwen_tensor::{Tensor, ops};

use super::{Bert, BertConfig, DecoderCache, EncoderStates, TokenHead};
use crate::TokenIds;

/// transformers' `BertLMHeadModel`: `bert`, and `cls` tied to its token embeddings.
pub struct BertDecoder {
    bert: Bert,
    head: TokenHead,
}

impl BertDecoder {
    /// Loads or draws everything.
    pub fn new(config: &BertConfig, scope: &Scope) -> Self {
        let bert = Bert::new("decoder", config, &scope.enter("bert"));
        Self { bert, head: TokenHead::new(config, &scope.enter("cls")) }
    }

    /// A decoder that shares everything but self-attention and head with an encoder, as in BLIP's pre-training.
    pub fn sharing(config: &BertConfig, encoder: &Bert, scope: &Scope) -> Self {
        let bert = Bert::sharing("decoder", config, encoder, &scope.enter("bert"));
        Self { bert, head: TokenHead::new(config, &scope.enter("cls")) }
    }

    /// States with the keys and values that each layer asks for, computed once for all that is written about them.
    pub fn project(&self, states: &EncoderStates) -> EncoderStates {
        self.bert.project(states)
    }

    /// Logits of the token after each: `[batch, tokens]` to `[batch, tokens, vocab_size]`.
    pub fn forward(&self, tokens: &TokenIds, states: &EncoderStates, pass: &Pass) -> Tensor {
        self.logits(&self.bert.forward_causal(tokens, std::slice::from_ref(states), pass))
    }

    /// Logits of the token after each of some states of the network below: `[..., hidden_size]` to `[..., vocab_size]`.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        self.head.forward(hidden, &self.bert.token_table())
    }

    /// Logits of the token after the last: `[rows, new tokens]` to `[rows, vocab_size]`. The rows go on from where `cache`
    /// ends, and it goes on with them. Rows that write about the same image stand together.
    ///
    /// # Panics
    /// If an id is outside the vocabulary, more tokens come together than there are positions, or the rows are no multiple
    /// of the images or others than the cache has.
    pub fn step(&self, tokens: &TokenIds, states: &EncoderStates, cache: &mut DecoderCache) -> Tensor {
        let hidden = self.bert.forward_cached(tokens, std::slice::from_ref(states), cache);
        let [rows, length, width] = hidden.dims();
        let last = ops::narrow(&hidden, 1, length - 1, 1).reshape(&[rows, width]);
        self.logits(&last)
    }

    /// The network below the head.
    pub fn bert(&self) -> &Bert {
        &self.bert
    }
}
