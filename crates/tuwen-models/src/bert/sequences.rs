//! What a decoder writes, as generation goes on with it.

use tuwen_tensor::Tensor;

use super::{BertDecoder, DecoderCache, EncoderStates};
use crate::TokenIds;
use crate::generate::Sequences;

/// Texts about images (or about questions), one for each to begin with. Keys and values of an image are computed once, and
/// shared by all texts about it without a copy.
pub struct BertSequences<'m> {
    decoder: &'m BertDecoder,
    pub(super) states: EncoderStates,
    /// The image of each text, ascending.
    images: Vec<u32>,
    cache: DecoderCache,
}

impl<'m> BertSequences<'m> {
    /// Of states that may be projected already.
    pub fn new(decoder: &'m BertDecoder, states: &EncoderStates) -> Self {
        let states = decoder.project(&states.apart());
        Self { decoder, images: (0..states.batch() as u32).collect(), states, cache: DecoderCache::default() }
    }
}

impl Sequences for BertSequences<'_> {
    fn step(&mut self, tokens: &TokenIds) -> Tensor {
        self.decoder.step(tokens, &self.states, &mut self.cache)
    }

    fn select(&mut self, rows: &[u32]) {
        self.cache.select(rows);
        let images: Vec<u32> = rows.iter().map(|&row| self.images[row as usize]).collect();
        let of_each: Vec<&[u32]> = images.chunk_by(|a, b| a == b).collect();
        let left: Vec<u32> = of_each.iter().map(|rows| rows[0]).collect();
        let texts: Vec<usize> = of_each.iter().map(|rows| rows.len()).collect();
        self.states = self.states.select(&left).with_texts(&texts);
        self.images = (0..).zip(&texts).flat_map(|(image, &texts)| vec![image; texts]).collect();
    }

    fn max_length(&self) -> usize {
        self.decoder.bert().max_length()
    }
}
