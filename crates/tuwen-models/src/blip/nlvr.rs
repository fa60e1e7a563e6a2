//! NLVR2: whether a sentence is true of two images (`BLIP_NLVR`).

use tuwen_nn::{Init, Linear, Pass, Scope};
use tuwen_tensor::{Activation, Tensor, ops};

use crate::bert::{Bert, EncoderStates, first_state};
use crate::{TokenIds, VisionTransformer};

/// Two linear layers with a ReLU between them.
pub(super) struct Classifier {
    hidden: Linear,
    out: Linear,
}

impl Classifier {
    pub(super) fn new(width: usize, scope: &Scope) -> Self {
        let fan_in = Init::fan_in(width);
        let linear = |out, name: usize| Linear::new(width, out, fan_in, fan_in, &scope.enter(name));
        Self { hidden: linear(width, 0), out: linear(2, 2) }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.out.forward(&self.hidden.forward_fused(x, Activation::Relu, None))
    }
}

/// What judges a sentence about two images.
#[derive(Clone, Copy)]
pub struct Nlvr<'m> {
    /// Looks at images.
    pub vision_model: &'m VisionTransformer,
    /// Reads sentences beside two images.
    pub text_encoder: &'m Bert,
    pub(super) classifier: &'m Classifier,
}

impl Nlvr<'_> {
    /// Logits `[batch, 2]` of false and true: of images `[2 · batch, 3, size, size]`, first those on the left, and sentences
    /// `[batch, tokens]` that begin with `[ENC]`.
    pub fn forward(&self, pixel_values: &Tensor, sentences: &TokenIds, pass: &Pass) -> Tensor {
        let states = self.vision_model.tokens(pixel_values, pass);
        let batch = states.shape()[0] / 2;
        let images = [0, batch].map(|start| EncoderStates::new(ops::narrow(&states, 0, start, batch)));
        self.classifier.forward(&first_state(&self.text_encoder.forward(sentences, &images, pass)))
    }
}
