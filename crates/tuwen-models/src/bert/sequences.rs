//! What a decoder writes, as generation goes on with it.

use tuwen_tensor::Tensor;

use super::{BertDecoder, DecoderCache, EncoderStates};
use crate::TokenIds;
use crate::generate::Sequences;

/// Texts about images (or about questions), one for each to begin with.
pub struct BertSequences<'m> {
    decoder: &'m BertDecoder,
    states: EncoderStates,
    /// The image of each row.
    images: Vec<u32>,
    cache: DecoderCache,
}

impl<'m> BertSequences<'m> {
    /// Of states from [`BertDecoder::project`].
    pub fn new(decoder: &'m BertDecoder, states: EncoderStates) -> Self {
        Self { decoder, images: (0..states.batch() as u32).collect(), states, cache: DecoderCache::default() }
    }
}

impl Sequences for BertSequences<'_> {
    fn step(&mut self, tokens: &TokenIds) -> Tensor {
        self.decoder.step(tokens, &self.states, &mut self.cache)
    }

    fn select(&mut self, rows: &[u32]) {
        self.cache.select(rows);
        self.images = rows.iter().map(|&row| self.images[row as usize]).collect();
        let mut left = self.images.clone();
        left.dedup();
        if left.len() < self.states.batch() {
            self.states = self.states.select(&left);
            let place = |image| left.partition_point(|&other| other < image) as u32;
            self.images = self.images.iter().map(|&image| place(image)).collect();
        }
    }

    fn max_length(&self) -> usize {
        self.decoder.bert().max_length()
    }
}
