//! Answers: an encoder reads the question beside the image, a decoder looks at what it read.

use tuwen_nn::Pass;
use tuwen_tensor::Tensor;

use crate::bert::{Bert, BertDecoder, EncoderStates};
use crate::{TokenIds, VisionTransformer};

/// What answers questions (`BLIP_VQA`).
#[derive(Clone, Copy)]
pub struct Answerer<'m> {
    /// Looks at images.
    pub vision_model: &'m VisionTransformer,
    /// Reads questions beside them.
    pub text_encoder: &'m Bert,
    /// Writes answers, from `[DEC]` on.
    pub text_decoder: &'m BertDecoder,
}

impl Answerer<'_> {
    /// States of questions `[batch, tokens]` about images: `[batch, tokens, hidden_size]`. Several questions about an image
    /// stand together. [`super::BlipConfig::grounded_start`] says what they begin with.
    pub fn read(&self, questions: &TokenIds, images: &EncoderStates, pass: &Pass) -> Tensor {
        self.text_encoder.forward(questions, std::slice::from_ref(images), pass)
    }

    /// Questions as [`BertDecoder::step`] looks at them to write answers. Padding is looked at too, as both programs do;
    /// transformers 5 does so in training as well.
    pub fn ask(&self, pixel_values: &Tensor, questions: &TokenIds, pass: &Pass) -> EncoderStates {
        let images = EncoderStates::new(self.vision_model.tokens(pixel_values, pass));
        self.text_decoder.project(&EncoderStates::new(self.read(questions, &images, pass)))
    }

    /// Questions as salesforce/BLIP ranks answers of a list by, and as it trains: padding is not looked at.
    pub fn ask_masked(&self, pixel_values: &Tensor, questions: &TokenIds, pass: &Pass) -> EncoderStates {
        let images = EncoderStates::new(self.vision_model.tokens(pixel_values, pass));
        let states = EncoderStates::new(self.read(questions, &images, pass));
        states.with_mask(questions.attention_mask.clone())
    }
}
