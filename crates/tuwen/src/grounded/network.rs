//! A BLIP or ALBEF network: what both do, under one name.

use tuwen_models::albef::Albef;
use tuwen_models::bert::{Bert, BertDecoder, EncoderStates, first_state};
use tuwen_models::blip::{Blip, Contrast};
use tuwen_models::{TokenIds, VisionTransformer};
use tuwen_nn::{Parameters, Pass};
use tuwen_tensor::{Tensor, ops};

/// A network.
pub enum GroundedNetwork {
    /// BLIP; boxed, as its parts differ with the task.
    Blip(Box<Blip>),
    /// ALBEF.
    Albef(Box<Albef>),
}

impl GroundedNetwork {
    /// All parameters, by our names.
    pub fn parameters(&self) -> &Parameters {
        match self {
            Self::Blip(blip) => blip.parameters(),
            Self::Albef(albef) => albef.parameters(),
        }
    }

    /// The image encoder.
    pub fn vision_model(&self) -> &VisionTransformer {
        match self {
            Self::Blip(blip) => blip.vision_model(),
            Self::Albef(albef) => albef.vision_model(),
        }
    }

    /// The projections to the joint space of images and texts, where the network has them.
    fn contrast(&self) -> Option<&Contrast> {
        match self {
            Self::Blip(blip) => blip.contrast(),
            Self::Albef(albef) => albef.contrast(),
        }
    }

    /// Vectors of images from states of all their tokens, `[batch, tokens, width]` to `[batch, dim]`: in the joint space
    /// where there is one, else the states of their class tokens.
    pub(super) fn image_vectors(&self, states: &Tensor) -> Tensor {
        if let Self::Blip(blip) = self
            && let Some(joint) = blip.joint()
        {
            return joint.project_image(states);
        }
        self.contrast().map_or_else(|| first_state(states), |contrast| contrast.project_image(states))
    }

    /// Vectors of texts `[batch, tokens]` that begin with `[CLS]`, likewise; `None` for a network that reads no texts by
    /// themselves.
    pub(super) fn text_vectors(&self, tokens: &TokenIds) -> Option<Tensor> {
        let pass = Pass::eval();
        let states = match self {
            Self::Blip(blip) => match blip.joint() {
                Some(joint) => return Some(joint.project_text(tokens, &pass)),
                None => blip.encoders()?.text(tokens, &pass),
            },
            Self::Albef(albef) => albef.text(tokens, &pass),
        };
        Some(self.contrast().map_or_else(|| first_state(&states), |contrast| contrast.project_text(&states)))
    }

    /// What reads texts beside images, where the network has it.
    pub fn text_encoder(&self) -> Option<&Bert> {
        match self {
            Self::Blip(blip) => {
                let of_answerer = blip.answerer().map(|answerer| answerer.text_encoder);
                of_answerer.or_else(|| Some(blip.encoders()?.text_encoder))
            }
            Self::Albef(albef) => Some(albef.text_encoder()),
        }
    }

    /// What writes answers about the states of questions, where the network has it.
    pub fn answer_decoder(&self) -> Option<&BertDecoder> {
        match self {
            Self::Blip(blip) => Some(blip.answerer()?.text_decoder),
            Self::Albef(albef) => albef.text_decoder(),
        }
    }

    /// States of texts beside images: `[texts, tokens]` to `[texts, tokens, hidden_size]`. Several texts of an image stand
    /// together. `None` for a network that has no such encoder.
    pub fn multimodal(&self, tokens: &TokenIds, images: &EncoderStates, pass: &Pass) -> Option<Tensor> {
        Some(match self {
            Self::Blip(blip) => blip.encoders()?.multimodal(tokens, images, pass),
            Self::Albef(albef) => albef.multimodal(tokens, images, pass),
        })
    }

    /// Logits `[texts, 2]` of no match and match, likewise; `None` without that head.
    pub fn itm_logits(&self, tokens: &TokenIds, images: &EncoderStates, pass: &Pass) -> Option<Tensor> {
        match self {
            Self::Blip(blip) => Some(blip.matcher()?.itm_logits(tokens, images, pass)),
            Self::Albef(albef) => albef.itm_logits(&albef.multimodal(tokens, images, pass)),
        }
    }

    /// What cosines are multiplied with before a softmax: the inverse of the learnt temperature; of networks that are
    /// published without it, of what training begins with.
    pub(super) fn logit_scale(&self) -> f32 {
        /// Where the temperature begins.
        const TEMPERATURE: f32 = 0.07;
        if let Self::Blip(blip) = self
            && let Some(joint) = blip.joint()
        {
            return joint.logit_scale().item();
        }
        let temp = self.contrast().and_then(Contrast::temp);
        temp.map_or(TEMPERATURE, |temp| temp.value().item()).recip()
    }
}

/// Vectors of length 1, if asked for.
pub(super) fn of_length(vectors: Tensor, normalized: bool) -> Tensor {
    if normalized { ops::l2_normalize(&vectors) } else { vectors }
}
