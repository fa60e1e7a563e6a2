//! transformers' `BlipModel`: both encoders pooled and projected, compared as CLIP does.

use tuwen_nn::{Init, Linear, Pass, Scope};
use tuwen_tensor::{Param, Tensor, ops};

use super::{BlipConfig, INIT};
use crate::bert::{Bert, first_state};
use crate::{TokenIds, VisionTransformer};

/// `ln(1 / 0.07)`, where the scale begins.
const LOGIT_SCALE: f32 = 2.659_26;

/// The pooler of texts, the projections and the scale.
pub(super) struct Pooling {
    pooler: Linear,
    visual_projection: Linear,
    text_projection: Linear,
    logit_scale: Param,
}

impl Pooling {
    pub(super) fn new(config: &BlipConfig, scope: &Scope) -> Self {
        let (width, dim) = (config.text.hidden_size, config.image_text_hidden_size);
        let projection = |width, name| Linear::no_bias(width, dim, INIT, &scope.enter(name));
        let pooler = scope.enter("text_model").enter("pooler").enter("dense");
        Self {
            pooler: Linear::new(width, width, INIT, Init::ZEROS, &pooler),
            visual_projection: projection(config.vision.hidden_size, "visual_projection"),
            text_projection: projection(width, "text_projection"),
            logit_scale: scope.param("logit_scale", &[], Init::Const(LOGIT_SCALE)),
        }
    }
}

/// What compares images and texts.
#[derive(Clone, Copy)]
pub struct Joint<'m> {
    /// Looks at images.
    pub vision_model: &'m VisionTransformer,
    /// Reads texts.
    pub text_model: &'m Bert,
    pub(super) pooling: &'m Pooling,
}

impl Joint<'_> {
    /// Embeddings of images as long as the projection makes them: states of all their tokens `[batch, tokens, width]` to
    /// `[batch, dim]`.
    pub fn project_image(&self, states: &Tensor) -> Tensor {
        self.pooling.visual_projection.forward(&self.vision_model.pooled_again(states))
    }

    /// Embeddings of texts that begin with `[CLS]`, as long as the projection makes them: `[batch, tokens]` to `[batch,
    /// dim]`.
    pub fn project_text(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        let states = self.text_model.forward(tokens, &[], pass);
        let pooled = tanh(&self.pooling.pooler.forward(&first_state(&states)));
        self.pooling.text_projection.forward(&pooled)
    }

    /// Embeddings of unit length of images: `[batch, 3, size, size]` to `[batch, dim]`.
    pub fn embed_image(&self, pixel_values: &Tensor, pass: &Pass) -> Tensor {
        ops::l2_normalize(&self.project_image(&self.vision_model.tokens(pixel_values, pass)))
    }

    /// Embeddings of unit length of texts that begin with `[CLS]`: `[batch, tokens]` to `[batch, dim]`.
    pub fn embed_text(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        ops::l2_normalize(&self.project_text(tokens, pass))
    }

    /// What cosines are multiplied with.
    pub fn logit_scale(&self) -> Tensor {
        ops::exp(&self.pooling.logit_scale.value())
    }
}

/// Of a few numbers, on the host: nothing else here needs it.
fn tanh(x: &Tensor) -> Tensor {
    let y = x.detach().to_vec().iter().map(|x| x.tanh()).collect::<Vec<_>>();
    let y = Tensor::on(x.device(), &y, x.shape());
    let slopes = y.to_vec().iter().map(|y| 1.0 - y * y).collect::<Vec<_>>();
    let slopes = Tensor::on(x.device(), &slopes, x.shape());
    ops::custom(x, |_| y, move |dy| ops::mul(&dy, &slopes))
}
