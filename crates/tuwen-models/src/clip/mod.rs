//! CLIP: an image tower and a text tower that meet in one space.
//!
//! Paper: arXiv 2103.00020. References: openai/CLIP `clip/model.py`, transformers `modeling_clip.py`.

pub mod config;
mod cost;
mod features;
pub mod groups;
pub mod positions;
pub mod presets;
pub mod processor;
mod text;
pub mod weights;
mod what_if;

pub use config::{ClipConfig, TextConfig, TextPooling, VisionConfig};
pub use features::ImageFeatures;
pub use processor::ClipImageProcessor;
pub use text::TextTransformer;

pub use crate::TokenIds;

use tuwen_nn::{Init, Linear, LoadReport, Parameters, Pass, Scope, Temperature};
use tuwen_tensor::{Param, Tensor, ops};

use crate::{ModifiedResNet, VisionTransformer};

/// Largest value of `logit_scale`, the logarithm of the factor: training clamps there.
pub const MAX_LOGIT_SCALE: f32 = 4.605_170_2; // ln 100

/// The two towers and the temperature.
pub struct Clip {
    vision_model: VisionTower,
    text_model: TextTransformer,
    text_projection: Linear,
    logit_scale: Param,
    logit_bias: Option<Param>,
    parameters: Parameters,
}

enum VisionTower {
    /// Boxed: a ResNet's stem makes the variants differ much in size.
    Vit(Box<VisionTransformer>, Linear),
    ResNet(Box<ModifiedResNet>),
}

impl Clip {
    /// Builds the network from a scope, which decides whether parameters are loaded or drawn.
    ///
    /// # Errors
    /// The report of everything that does not fit between the configuration and the checkpoint.
    pub fn new(config: &ClipConfig, scope: Scope) -> Result<Self, LoadReport> {
        let dim = config.projection_dim;
        let projection = |width: usize, name| {
            Linear::no_bias(width, dim, Init::Normal((width as f32).sqrt().recip()), &scope.enter(name))
        };
        let vision = scope.enter("vision_model");
        let vision_model = match &config.vision {
            VisionConfig::Vit(vit) => VisionTower::Vit(
                Box::new(VisionTransformer::new(vit, &vision)),
                projection(vit.hidden_size, "visual_projection"),
            ),
            VisionConfig::ResNet(resnet) => {
                VisionTower::ResNet(Box::new(ModifiedResNet::new(resnet, dim, &vision)))
            }
        };
        let text_model = TextTransformer::new(&config.text, &scope.enter("text_model"));
        let text_projection = projection(config.text.hidden_size, "text_projection");
        let logit_scale = scope.param("logit_scale", &[], Init::Const(config.logit_scale_init_value));
        let logit_bias = config.logit_bias_init_value.map(|b| scope.param("logit_bias", &[], Init::Const(b)));
        let parameters = scope.finish()?;
        Ok(Self { vision_model, text_model, text_projection, logit_scale, logit_bias, parameters })
    }

    /// All parameters and buffers, by Hugging Face's names.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Image features before normalisation: `[batch, 3, size, size]` to `[batch, projection_dim]`.
    pub fn image_features(&self, pixel_values: &Tensor, pass: &Pass) -> Tensor {
        let features = match &self.vision_model {
            VisionTower::Vit(vit, projection) => projection.forward(&vit.forward(pixel_values, pass)),
            VisionTower::ResNet(resnet) => resnet.forward(pixel_values, pass),
        };
        pass.record(|| "vision.projected".into(), || features.clone());
        features
    }

    /// Text features before normalisation: `[batch, tokens]` to `[batch, projection_dim]`.
    pub fn text_features(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        let features = self.text_projection.forward(&self.text_model.forward(tokens, pass));
        pass.record(|| "text.projected".into(), || features.clone());
        features
    }

    /// As [`Clip::text_features`] for texts without a mask, each beside others of about its length.
    pub fn text_features_by_length(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        self.text_projection.forward(&self.text_model.forward_by_length(tokens, pass))
    }

    /// Image features on the unit sphere.
    pub fn embed_image(&self, pixel_values: &Tensor, pass: &Pass) -> Tensor {
        let embedding = ops::l2_normalize(&self.image_features(pixel_values, pass));
        pass.record(|| "vision.normalised".into(), || embedding.clone());
        embedding
    }

    /// Text features on the unit sphere.
    pub fn embed_text(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        let embedding = ops::l2_normalize(&self.text_features(tokens, pass));
        pass.record(|| "text.normalised".into(), || embedding.clone());
        embedding
    }

    /// From cosines to logits, on the tape.
    pub fn temperature(&self) -> Temperature {
        Temperature { scale: self.logit_scale(), bias: self.logit_bias() }
    }

    /// The factor between cosines and logits, on the tape.
    pub fn logit_scale(&self) -> Tensor {
        ops::exp(&self.logit_scale.value())
    }

    /// What is added to the logits, where the model has it (SigLIP).
    pub fn logit_bias(&self) -> Option<Tensor> {
        self.logit_bias.as_ref().map(Param::value)
    }

    /// `logit_scale · image · textᵀ + logit_bias` of embeddings on the unit sphere: `[images, texts]`.
    pub fn logits_per_image(&self, image: &Tensor, text: &Tensor) -> Tensor {
        let logits = ops::mul(&ops::matmul_nt(image, text), &self.logit_scale());
        match self.logit_bias() {
            Some(bias) => ops::add(&logits, &bias),
            None => logits,
        }
    }

    /// Keeps the temperature in the range of the paper; call it after each optimizer step.
    pub fn clamp_logit_scale(&self) {
        if !self.logit_scale.is_trainable() {
            return;
        }
        let value = self.logit_scale.value();
        let clamped = value.item().clamp(0.0, MAX_LOGIT_SCALE);
        self.logit_scale.assign(&Tensor::on(value.device(), &[clamped], &[]));
    }
}
