//! Images and texts compared: by contrast (ITC) and by a head that saw both (ITM).

use tuwen_nn::{Init, Linear, Pass, Scope};
use tuwen_tensor::{Param, Tensor, ops};

use super::{BlipConfig, Encoders};
use crate::TokenIds;
use crate::bert::{EncoderStates, first_state};

/// Where the temperature begins, by which similarities are divided.
const TEMPERATURE: f32 = 0.07;

/// The projections to a joint space, and the temperature there.
pub struct Contrast {
    vision_proj: Linear,
    text_proj: Linear,
    temp: Option<Param>,
}

impl Contrast {
    /// Loads or draws the projections; the temperature where the configuration has it.
    pub fn new(config: &BlipConfig, scope: &Scope) -> Self {
        let widths = [config.vision.hidden_size, config.text.hidden_size];
        Self::of_widths(widths, config.image_text_hidden_size, config.temperature, scope)
    }

    /// Of widths of images and texts to `dim`.
    pub(crate) fn of_widths(
        [vision, text]: [usize; 2],
        dim: usize,
        temperature: bool,
        scope: &Scope,
    ) -> Self {
        let projection = |width, name| {
            // As PyTorch's linear layers begin, here and in the head for matching.
            Linear::new(width, dim, Init::fan_in(width), Init::fan_in(width), &scope.enter(name))
        };
        Self {
            vision_proj: projection(vision, "vision_proj"),
            text_proj: projection(text, "text_proj"),
            temp: temperature.then(|| scope.param("temp", &[], Init::Const(TEMPERATURE))),
        }
    }

    /// Embeddings of images as long as the projection makes them; otherwise as [`Contrast::embed_image`].
    pub fn project_image(&self, states: &Tensor) -> Tensor {
        self.vision_proj.forward(&first_state(states))
    }

    /// Embeddings of texts as long as the projection makes them; otherwise as [`Contrast::embed_text`].
    pub fn project_text(&self, states: &Tensor) -> Tensor {
        self.text_proj.forward(&first_state(states))
    }

    /// Embeddings of unit length from states of all tokens of images: `[batch, tokens, width]` to `[batch, dim]`.
    pub fn embed_image(&self, states: &Tensor, pass: &Pass) -> Tensor {
        embed(&self.vision_proj, states, "vision_proj", pass)
    }

    /// Embeddings of unit length from states of texts: `[batch, tokens, width]` to `[batch, dim]`.
    pub fn embed_text(&self, states: &Tensor, pass: &Pass) -> Tensor {
        embed(&self.text_proj, states, "text_proj", pass)
    }

    /// What similarities are divided by in training, where the network has it.
    pub fn temp(&self) -> Option<&Param> {
        self.temp.as_ref()
    }
}

fn embed(projection: &Linear, states: &Tensor, name: &str, pass: &Pass) -> Tensor {
    let projected = projection.forward(&first_state(states));
    pass.record(|| name.into(), || projected.clone());
    let embedding = ops::l2_normalize(&projected);
    pass.record(|| format!("{name}.normalised"), || embedding.clone());
    embedding
}

/// What compares images and texts (`BLIP_ITM`, `BLIP_Retrieval`).
#[derive(Clone, Copy)]
pub struct Matcher<'m> {
    /// States of both.
    pub encoders: Encoders<'m>,
    /// To the space where their cosines are taken.
    pub contrast: &'m Contrast,
    /// Of two classes, the second of which is a match.
    pub itm_head: &'m Linear,
}

impl Matcher<'_> {
    /// Embeddings of unit length of texts that begin with `[CLS]`: `[batch, tokens]` to `[batch, dim]`.
    pub fn embed_text(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        self.contrast.embed_text(&self.encoders.text(tokens, pass), pass)
    }

    /// Logits `[batch, 2]` of no match and match, of texts `[batch, tokens]` beside images. Several texts of an image
    /// stand together. [`BlipConfig::grounded_start`] says what they begin with.
    pub fn itm_logits(&self, tokens: &TokenIds, images: &EncoderStates, pass: &Pass) -> Tensor {
        self.itm_of_states(&self.encoders.multimodal(tokens, images, pass))
    }

    /// The same from the states of the texts `[texts, tokens, hidden_size]`.
    pub fn itm_of_states(&self, states: &Tensor) -> Tensor {
        self.itm_head.forward(&first_state(states))
    }
}
