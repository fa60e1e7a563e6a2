//! BERT in all its uses: text encoder, encoder grounded in an image by cross-attention, decoder.
//!
//! One definition serves BLIP, ALBEF and BLIP-2's Q-Former. Papers: arXiv 1810.04805, 2201.12086 (the mixture of encoder
//! and decoder), 2107.07651 (ALBEF, whose upper layers fuse text and image). References: BLIP `models/med.py` and
//! `models/nlvr_encoder.py`, ALBEF `models/xbert.py`, transformers' `modeling_blip_text.py`, whose parameter names these
//! are.

mod config;
mod decoder;
mod explain;
mod head;
mod json;
mod layer;
mod loss;
mod rank;
mod sequences;
mod states;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

pub use config::{BertConfig, CrossAttentionConfig, CrossImages, LAYER_NORM_EPS};
pub use decoder::BertDecoder;
pub use head::TokenHead;
pub(crate) use json::BertJson;
pub use loss::NextTokens;
pub use rank::{RankRules, Ranking};
pub use sequences::BertSequences;
pub use states::{DecoderCache, EncoderStates};

use tuwen_nn::{Embedding, LayerNorm, Pass, Scope, SequenceMask};
use tuwen_tensor::{Tensor, ops};

use crate::TokenIds;
use layer::{BertLayer, INIT};

/// Embeddings and layers; states go in and out normalised.
pub struct Bert {
    /// What its states are called in a trace: `NAME.embeddings`, `NAME.layer.0`, ...
    name: &'static str,
    embeddings: Arc<Embeddings>,
    layers: Vec<Arc<BertLayer>>,
}

struct Embeddings {
    words: Embedding,
    positions: Embedding,
    types: Option<Embedding>,
    norm: LayerNorm,
}

impl Embeddings {
    fn new(config: &BertConfig, scope: &Scope) -> Self {
        let width = config.hidden_size;
        let table = |rows, name| Embedding::new(rows, width, INIT, &scope.enter(name));
        Self {
            words: Embedding::tied(config.vocab_size, width, INIT, &scope.enter("word_embeddings")),
            positions: table(config.max_position_embeddings, "position_embeddings"),
            types: config.type_vocab_size.map(|types| table(types, "token_type_embeddings")),
            norm: LayerNorm::new(width, config.layer_norm_eps, &scope.enter("LayerNorm")),
        }
    }

    /// Texts from position `start` on: `[batch, tokens]` to `[batch, tokens, hidden_size]`.
    fn forward(&self, tokens: &TokenIds, start: usize) -> Tensor {
        let words = self.words.forward(&tokens.ids);
        let width = words.last_dim();
        let words = words.reshape(&[tokens.batch(), tokens.length, width]);
        let positions = ops::narrow(&self.positions.table(), 0, start, tokens.length);
        let mut sum = ops::add(&words, &positions);
        if let Some(types) = &self.types {
            sum = ops::add(&sum, &types.forward(&[0]).reshape(&[width]));
        }
        self.norm.forward(&sum)
    }
}

impl Bert {
    /// Loads or draws everything; `name` stands before the states of a trace.
    pub fn new(name: &'static str, config: &BertConfig, scope: &Scope) -> Self {
        let layers = scope.enter("encoder").enter("layer");
        let layer = |i| Arc::new(BertLayer::new(config, i, &layers.enter(i)));
        Self {
            name,
            embeddings: Arc::new(Embeddings::new(config, &scope.enter("embeddings"))),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
        }
    }

    /// One with self-attention of its own, and everything else of another, whose sizes are the same.
    pub fn sharing(name: &'static str, config: &BertConfig, other: &Self, scope: &Scope) -> Self {
        let scope = scope.enter("encoder").enter("layer");
        let layer = |(i, other): (usize, &Arc<BertLayer>)| {
            Arc::new(BertLayer::sharing(config, other, &scope.enter(i)))
        };
        Self {
            name,
            embeddings: other.embeddings.clone(),
            layers: other.layers.iter().enumerate().map(layer).collect(),
        }
    }

    /// Number of layers.
    pub fn num_layers(&self) -> usize {
        self.layers.len()
    }

    /// Most tokens of a text: there is a position for each.
    pub fn max_length(&self) -> usize {
        self.embeddings.positions.table().shape()[0]
    }

    /// The table of token embeddings `[vocab_size, hidden_size]`, to which heads are tied.
    pub fn token_table(&self) -> Tensor {
        self.embeddings.words.table()
    }

    /// States of texts in which every token sees every other, and the `states` of images, if there are any: `[batch,
    /// tokens]` to `[batch, tokens, hidden_size]`.
    ///
    /// # Panics
    /// If an id is outside the vocabulary, rows are longer than the positions, or the texts no multiple of the images.
    pub fn forward(&self, tokens: &TokenIds, states: &[EncoderStates], pass: &Pass) -> Tensor {
        let layers = 0..self.layers.len();
        self.run(layers, &self.embed(tokens, pass), &mask_of(tokens, false), states, pass)
    }

    /// As [`Bert::forward`] where a token sees only those up to itself.
    pub fn forward_causal(&self, tokens: &TokenIds, states: &[EncoderStates], pass: &Pass) -> Tensor {
        let layers = 0..self.layers.len();
        self.run(layers, &self.embed(tokens, pass), &mask_of(tokens, true), states, pass)
    }

    /// As [`Bert::forward_causal`] for the next tokens of sequences, none of which is padding.
    pub fn forward_cached(
        &self,
        tokens: &TokenIds,
        states: &[EncoderStates],
        cache: &mut DecoderCache,
    ) -> Tensor {
        let mut hidden = self.embeddings.forward(tokens, cache.len());
        cache.begin_step(self.layers.len(), tokens.batch());
        for (i, (layer, steps)) in self.layers.iter().zip(&mut cache.layers).enumerate() {
            hidden = layer.forward_cached(&hidden, steps, &cache.rows, states, i);
        }
        hidden
    }

    /// What goes into the first layer: `[batch, tokens]` to `[batch, tokens, hidden_size]`.
    pub fn embed(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        let hidden = pass.dropout(&self.embeddings.forward(tokens, 0));
        pass.record(|| format!("{}.embeddings", self.name), || hidden.clone());
        hidden
    }

    /// Some of the layers: `[batch, tokens, hidden_size]` to the same.
    pub fn run(
        &self,
        layers: Range<usize>,
        hidden: &Tensor,
        mask: &SequenceMask,
        states: &[EncoderStates],
        pass: &Pass,
    ) -> Tensor {
        let mut hidden = hidden.clone();
        for i in layers {
            let (layer, mask) = (self.layers[i].clone(), mask.clone());
            let looked_at = if layer.looks() { states } else { &[] };
            let seen: Vec<Vec<Tensor>> = looked_at.iter().map(|states| states.seen_by(i)).collect();
            // What the block looks at is an input of it too, through which gradients flow.
            let inputs: Vec<&Tensor> = [&hidden].into_iter().chain(seen.iter().flatten()).collect();
            let looked_at = looked_at.to_vec();
            hidden = pass.block_of(&inputs, move |inputs, pass| {
                let each = (inputs.len() - 1) / looked_at.len().max(1);
                let seen = inputs[1..].chunks(each.max(1));
                let states: Vec<EncoderStates> =
                    looked_at.iter().zip(seen).map(|(states, seen)| states.with_seen(i, seen)).collect();
                layer.forward(&inputs[0], mask.of_layer(), &states, i, pass)
            });
            pass.record(|| format!("{}.layer.{i}", self.name), || hidden.clone());
        }
        hidden
    }

    /// States of one image a text with the keys and values that each layer asks for.
    pub fn project(&self, states: &EncoderStates) -> EncoderStates {
        states.projected(|states| self.layers.iter().map(|layer| layer.keys_values(0, states)).collect())
    }
}

/// Which tokens of texts see which.
pub fn mask_of(tokens: &TokenIds, causal: bool) -> SequenceMask {
    SequenceMask { causal, keys: tokens.attention_mask.as_deref().map(Into::into) }
}

/// The state of the first token: `[batch, tokens, width]` to `[batch, width]`.
pub fn first_state(states: &Tensor) -> Tensor {
    let [batch, _, width] = states.dims();
    ops::narrow(states, 1, 0, 1).reshape(&[batch, width])
}
