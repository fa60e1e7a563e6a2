//! What jobs ask of models.

use tuwen_data::image::{RgbImage, Transform};

/// Why a model could not do what was asked.
pub type ModelError = Box<dyn std::error::Error + Send + Sync>;

/// Looks at pictures once, so that several texts can be written about them or compared with them.
pub trait ImageEncoder {
    /// What it sees in a batch of pictures.
    type Features;

    /// How pictures are prepared for it.
    fn transform(&self) -> &Transform;

    /// Encodes prepared pictures, at least one.
    ///
    /// # Errors
    /// A model that cannot be run.
    fn encode(&self, images: &[RgbImage]) -> Result<Self::Features, ModelError>;
}

/// Writes captions.
pub trait Captioner: ImageEncoder {
    /// Captions of each picture of a batch. What is drawn at random follows from the seed of the picture alone, and
    /// nothing from what else is in the batch.
    ///
    /// # Errors
    /// A model that cannot be run.
    fn captions(&self, images: &Self::Features, seeds: &[u64]) -> Result<Vec<Vec<Caption>>, ModelError>;
}

/// Says how well texts fit pictures.
pub trait Filter: ImageEncoder {
    /// Scores of the texts of each picture of a batch, by the heads that are asked for. A picture may have no texts.
    ///
    /// # Errors
    /// A model that cannot be run, or lacks a head.
    fn scores(
        &self,
        images: &Self::Features,
        texts: &[Vec<String>],
        heads: Heads,
    ) -> Result<Vec<Vec<Scores>>, ModelError>;
}

/// A caption that a model wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Caption {
    /// The words.
    pub text: String,
    /// How likely the model finds them: a mean or sum of natural logarithms, as it decodes.
    pub score: f32,
}

/// Heads by which texts are compared with pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Image-text matching: the probability of a match, by a head that saw both.
    pub itm: bool,
    /// Image-text contrast: the cosine of two embeddings.
    pub itc: bool,
}

/// How well a text fits a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// The probability of a match, in `0..=1`.
    pub itm: Option<f32>,
    /// The cosine, in `-1..=1`.
    pub itc: Option<f32>,
    /// Whether the text was longer than the model reads, so that only its beginning was scored.
    pub cut: bool,
}

/// The models of a job, which see pictures in the same terms.
pub struct Models<'m, F> {
    /// Writes captions; without it only what texts there are is filtered.
    pub captioner: Option<&'m dyn Captioner<Features = F>>,
    /// Scores texts.
    pub filter: &'m dyn Filter<Features = F>,
    /// Whether both have the same image encoder with the same weights and preparation, so that one of them looks for
    /// both.
    pub shared: bool,
}
