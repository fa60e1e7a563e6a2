//! The network behind a model, with what prepares images and texts for it.

use tuwen_data::image::Transform;
use tuwen_data::tokenizer::{ClipTokenizer, TokenBatch, Truncated};
use tuwen_models::TokenIds;
use tuwen_models::clip::{Clip, ClipConfig, ClipImageProcessor, ImageFeatures};
use tuwen_nn::{Parameters, Pass};
use tuwen_tensor::{Tensor, ops};

use crate::files::Tokenizer;
use crate::{Ability, Error, GroundedModel};

/// A CLIP network with what prepares images and texts for it.
pub struct ClipModel {
    /// The network.
    pub network: Clip,
    /// Its sizes.
    pub config: ClipConfig,
    /// How images are prepared.
    pub processor: ClipImageProcessor,
    pub(crate) tokenizer: Tokenizer,
}

impl ClipModel {
    /// The tokenizer, unless the model came without one.
    pub fn tokenizer(&self) -> Option<&ClipTokenizer> {
        self.tokenizer.get()
    }
}

/// A network of some family.
pub(crate) enum Towers {
    Clip(Box<ClipModel>),
    Grounded(Box<GroundedModel>),
}

impl Towers {
    pub fn abilities(&self) -> &'static [Ability] {
        match self {
            Self::Clip(_) => Ability::CLIP,
            Self::Grounded(model) => model.config().abilities(),
        }
    }

    pub fn parameters(&self) -> &Parameters {
        match self {
            Self::Clip(model) => model.network.parameters(),
            Self::Grounded(model) => model.network().parameters(),
        }
    }

    pub fn transform(&self) -> &Transform {
        match self {
            Self::Clip(model) => &model.processor.transform,
            Self::Grounded(model) => model.transform(),
        }
    }

    /// Side of the square that the network takes, in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Clip(model) => model.config.vision.image_size(),
            Self::Grounded(model) => model.config().vision().image_size,
        }
    }

    pub fn image_dim(&self, features: ImageFeatures) -> usize {
        match self {
            Self::Clip(model) => model.config.image_feature_dim(features),
            Self::Grounded(model) => match features {
                ImageFeatures::Pooled => model.config().vision().hidden_size,
                _ => model.config().image_dim(),
            },
        }
    }

    pub fn text_dim(&self) -> usize {
        match self {
            Self::Clip(model) => model.config.projection_dim,
            Self::Grounded(model) => model.config().text_dim(),
        }
    }

    /// Longest text in tokens.
    pub fn text_limit(&self) -> usize {
        match self {
            Self::Clip(model) => model.config.text.max_position_embeddings,
            Self::Grounded(model) => model.text_limit(),
        }
    }

    pub fn logit_scale(&self) -> f32 {
        match self {
            Self::Clip(model) => model.network.logit_scale().item(),
            Self::Grounded(model) => model.logit_scale(),
        }
    }

    /// Vectors of images `[batch, 3, size, size]`.
    pub fn image_vectors(&self, features: ImageFeatures, pixel_values: &Tensor) -> Tensor {
        match self {
            Self::Clip(model) => model.network.image_features_as(features, pixel_values, &Pass::eval()),
            Self::Grounded(model) => model.image_vectors(features, pixel_values),
        }
    }

    /// Ids of texts, cut to what the network reads.
    pub fn encode(&self, texts: &[impl AsRef<str>]) -> Result<(TokenIds, Vec<Truncated>), Error> {
        match self {
            Self::Clip(model) => {
                let TokenBatch { ids, truncated, context_length, .. } = model.tokenizer.encode(texts)?;
                Ok((TokenIds { ids, length: context_length, attention_mask: None }, truncated))
            }
            Self::Grounded(model) => {
                model.require(Ability::EmbedTexts)?;
                model.tokens(texts)
            }
        }
    }

    /// Vectors of texts that [`Towers::encode`] gave.
    pub fn text_vectors(&self, tokens: &TokenIds, normalized: bool) -> Tensor {
        match self {
            Self::Clip(model) => {
                let features = model.network.text_features_by_length(tokens, &Pass::eval());
                if normalized { ops::l2_normalize(&features) } else { features }
            }
            Self::Grounded(model) => model.text_vectors(tokens, normalized),
        }
    }
}
