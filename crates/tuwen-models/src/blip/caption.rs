//! Captions: a decoder that looks at an image.

use tuwen_nn::Pass;
use tuwen_tensor::Tensor;

use crate::bert::{BertDecoder, EncoderStates};
use crate::{TokenIds, VisionTransformer};

/// What writes captions (`BLIP_Decoder`).
#[derive(Clone, Copy)]
pub struct Captioner<'m> {
    /// Looks at images.
    pub vision_model: &'m VisionTransformer,
    /// Writes about them, from `[DEC]` on.
    pub text_decoder: &'m BertDecoder,
}

impl Captioner<'_> {
    /// Images `[batch, 3, size, size]` as [`BertDecoder::step`] looks at them.
    pub fn look(&self, pixel_values: &Tensor, pass: &Pass) -> EncoderStates {
        self.text_decoder.project(&EncoderStates::new(self.vision_model.tokens(pixel_values, pass)))
    }

    /// Logits `[batch, tokens, vocab_size]` of the token after each: of captions `[batch, tokens]`, which begin with
    /// `[DEC]`, of images `[batch, 3, size, size]`.
    pub fn forward(&self, pixel_values: &Tensor, captions: &TokenIds, pass: &Pass) -> Tensor {
        let states = EncoderStates::new(self.vision_model.tokens(pixel_values, pass));
        self.text_decoder.forward(captions, &states, pass)
    }
}
