//! ALBEF: an image encoder, and a BERT whose lower layers read a text and whose upper layers fuse it with an image.
//!
//! Paper: arXiv 2107.07651. References: salesforce/ALBEF `models/model_{pretrain,retrieval,vqa}.py` and `models/xbert.py`;
//! LAVIS `models/albef_models/*.py`.

pub mod config;
mod cost;
pub mod presets;
pub mod start;
pub mod weights;

pub use config::{AlbefConfig, AlbefTask};

use std::ops::Range;

use tuwen_nn::{Init, Linear, LoadReport, Parameters, Pass, Scope};
use tuwen_tensor::Tensor;

use crate::bert::{Bert, BertDecoder, EncoderStates, TokenHead, first_state, mask_of};
use crate::blip::Contrast;
use crate::{TokenIds, VisionTransformer};

/// The parts that a task needs.
pub struct Albef {
    vision_model: VisionTransformer,
    text_encoder: Bert,
    /// The first layer that looks at images.
    fusion_layer: usize,
    mlm_head: Option<TokenHead>,
    contrast: Option<Contrast>,
    itm_head: Option<Linear>,
    text_decoder: Option<BertDecoder>,
    parameters: Parameters,
}

impl Albef {
    /// Builds the network from a scope, which decides whether parameters are loaded or drawn.
    ///
    /// # Errors
    /// The report of everything that does not fit between the configuration and the checkpoint.
    pub fn new(config: &AlbefConfig, scope: Scope) -> Result<Self, LoadReport> {
        let width = config.text.hidden_size;
        let contrast = |dim| {
            let widths = [config.vision.hidden_size, width];
            Contrast::of_widths(widths, dim, config.temperature, &scope)
        };
        let fan_in = Init::fan_in(width);
        let itm_head = |_| Linear::new(width, 2, fan_in, fan_in, &scope.enter("itm_head"));
        let decoder = |decoder| BertDecoder::new(decoder, &scope.enter("text_decoder"));
        Ok(Self {
            vision_model: VisionTransformer::timm(&config.vision, &scope.enter("vision_model")),
            text_encoder: Bert::new("text", &config.text, &scope.enter("text_encoder")),
            fusion_layer: config.fusion_layer(),
            mlm_head: (config.task == AlbefTask::Pretrain)
                .then(|| TokenHead::new(&config.text, &scope.enter("cls"))),
            contrast: config.embed_dim.map(contrast),
            itm_head: config.embed_dim.map(itm_head),
            text_decoder: config.answer_decoder.as_ref().map(decoder),
            parameters: scope.finish()?,
        })
    }

    /// All parameters, by our names.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The image encoder.
    pub fn vision_model(&self) -> &VisionTransformer {
        &self.vision_model
    }

    /// What reads texts, by themselves below the fusion layer and beside images from there on.
    pub fn text_encoder(&self) -> &Bert {
        &self.text_encoder
    }

    /// What writes answers about the states of questions, in a network for questions.
    pub fn text_decoder(&self) -> Option<&BertDecoder> {
        self.text_decoder.as_ref()
    }

    /// The projections to the joint space, where the network has them.
    pub fn contrast(&self) -> Option<&Contrast> {
        self.contrast.as_ref()
    }

    /// States of all tokens of images, the class token first: `[batch, 3, size, size]` to `[batch, patches + 1, width]`.
    pub fn image(&self, pixel_values: &Tensor, pass: &Pass) -> Tensor {
        self.vision_model.tokens(pixel_values, pass)
    }

    /// States of texts after the lower layers: `[batch, tokens]` to `[batch, tokens, hidden_size]`.
    pub fn text(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        let hidden = self.text_encoder.embed(tokens, pass);
        self.run(0..self.fusion_layer, &hidden, tokens, &[], pass)
    }

    /// States of texts after the upper layers, from those after the lower ones, beside images. Several texts of an image
    /// stand together.
    pub fn fuse(&self, text: &Tensor, tokens: &TokenIds, images: &EncoderStates, pass: &Pass) -> Tensor {
        let layers = self.fusion_layer..self.text_encoder.num_layers();
        self.run(layers, text, tokens, std::slice::from_ref(images), pass)
    }

    /// States of images with the keys and values that each layer asks for, computed once for all texts beside them.
    pub fn project(&self, images: &EncoderStates) -> EncoderStates {
        self.text_encoder.project(images)
    }

    /// States of texts after all layers: of questions, and of texts with masked tokens.
    pub fn multimodal(&self, tokens: &TokenIds, images: &EncoderStates, pass: &Pass) -> Tensor {
        self.fuse(&self.text(tokens, pass), tokens, images, pass)
    }

    /// Logits `[batch, 2]` of no match and match from states after the upper layers; `None` without that head.
    pub fn itm_logits(&self, fused: &Tensor) -> Option<Tensor> {
        Some(self.itm_head.as_ref()?.forward(&first_state(fused)))
    }

    /// Logits `[batch, tokens, vocab_size]` of what each token is, from states after the upper layers; `None` without that
    /// head.
    pub fn mlm_logits(&self, fused: &Tensor) -> Option<Tensor> {
        Some(self.mlm_head.as_ref()?.forward(fused, &self.text_encoder.token_table()))
    }

    fn run(
        &self,
        layers: Range<usize>,
        hidden: &Tensor,
        tokens: &TokenIds,
        images: &[EncoderStates],
        pass: &Pass,
    ) -> Tensor {
        self.text_encoder.run(layers, hidden, &mask_of(tokens, false), images, pass)
    }
}
