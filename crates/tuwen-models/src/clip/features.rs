//! What an image is described by: the places of the image tower where a vector may be taken.

use std::fmt;

use serde::{Deserialize, Serialize};
use tuwen_nn::Pass;
use tuwen_tensor::{Tensor, ops};

use super::{Clip, ClipConfig, VisionConfig, VisionTower};

/// What an image is described by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFeatures {
    /// What the tower pools, before the projection to the joint space: the paper's features for linear probes. A
    /// ModifiedResNet projects while it pools, so that its pooled features are the projected ones.
    Pooled,
    /// After the projection, as long as the tower makes them: `encode_image` of OpenAI's program.
    Projected,
    /// After the projection, of length 1: what texts are compared with.
    #[default]
    Normalized,
}

impl ImageFeatures {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pooled, Self::Projected, Self::Normalized];

    /// Its name for people and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pooled => "pooled",
            Self::Projected => "projected",
            Self::Normalized => "normalized",
        }
    }

    /// The features of a name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|features| features.name() == name)
    }
}

impl fmt::Display for ImageFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ClipConfig {
    /// Width of the vectors that describe an image.
    pub fn image_feature_dim(&self, features: ImageFeatures) -> usize {
        match (features, &self.vision) {
            (ImageFeatures::Pooled, VisionConfig::Vit(vit)) => vit.hidden_size,
            _ => self.projection_dim,
        }
    }
}

impl Clip {
    /// Vectors of images: `[batch, 3, size, size]` to `[batch, image_feature_dim]`.
    pub fn image_features_as(&self, features: ImageFeatures, pixel_values: &Tensor, pass: &Pass) -> Tensor {
        match (features, &self.vision_model) {
            (ImageFeatures::Pooled, VisionTower::Vit(vit, _)) => vit.forward(pixel_values, pass),
            (ImageFeatures::Normalized, _) => ops::l2_normalize(&self.image_features(pixel_values, pass)),
            _ => self.image_features(pixel_values, pass),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for features in ImageFeatures::ALL {
            assert_eq!(ImageFeatures::find(&features.to_string()), Some(features));
        }
        assert_eq!(ImageFeatures::find("raw"), None);
    }
}
