//! States of images, of texts, and of texts beside images (`BLIP_Base`).

use tuwen_nn::Pass;
use tuwen_tensor::Tensor;

use crate::bert::{Bert, EncoderStates};
use crate::{TokenIds, VisionTransformer};

/// The two encoders.
#[derive(Clone, Copy)]
pub struct Encoders<'m> {
    /// Looks at images.
    pub vision_model: &'m VisionTransformer,
    /// Reads texts.
    pub text_encoder: &'m Bert,
}

impl Encoders<'_> {
    /// States of all tokens of images, the class token first: `[batch, 3, size, size]` to `[batch, patches + 1, width]`.
    pub fn image(&self, pixel_values: &Tensor, pass: &Pass) -> Tensor {
        self.vision_model.tokens(pixel_values, pass)
    }

    /// States of texts that begin with `[CLS]`: `[batch, tokens]` to `[batch, tokens, hidden_size]`.
    pub fn text(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        self.text_encoder.forward(tokens, &[], pass)
    }

    /// States of texts that begin with `[ENC]`, beside images: `[batch, tokens]` to `[batch, tokens, hidden_size]`.
    /// Several texts of an image stand together.
    pub fn multimodal(&self, tokens: &TokenIds, images: &EncoderStates, pass: &Pass) -> Tensor {
        self.text_encoder.forward(tokens, std::slice::from_ref(images), pass)
    }
}
