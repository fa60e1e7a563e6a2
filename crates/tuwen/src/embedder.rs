//! Images and texts to vectors.

use tuwen_data::image::{ImageError, Picture, RgbImage};
use tuwen_data::tokenizer::Truncated;
use tuwen_kernels::parallel_chunks_mut;
use tuwen_models::clip::{ImageFeatures, TokenIds};
use tuwen_nn::Pass;
use tuwen_tensor::{Tensor, ops};

use crate::{Embeddings, Error, Model};

/// Images that go through the network together: enough to keep it busy, few enough for small memories
/// and for progress to be seen.
const IMAGE_BATCH: usize = 16;
/// Texts that are sorted by length together.
const TEXT_BATCH: usize = 4096;

/// The ability to turn images and texts into vectors.
#[derive(Clone, Copy)]
pub struct Embedder<'m> {
    pub(crate) model: &'m Model,
    /// What images are described by; texts keep the length that their tower gives unless it is normalised.
    pub(crate) features: ImageFeatures,
}

/// An image of the size that the network takes.
#[derive(Clone, Debug)]
pub struct Pixels(RgbImage);

/// Vectors of texts.
#[derive(Clone, Debug)]
pub struct Texts {
    /// One row for each text.
    pub embeddings: Embeddings,
    /// Texts of more tokens than the model takes; what was beyond was left out.
    pub truncated: Vec<Truncated>,
}

impl Embedder<'_> {
    /// Width of the vector of an image.
    pub fn dim(&self) -> usize {
        self.model.config().image_feature_dim(self.features)
    }

    /// Images that go through the network together in [`Embedder::pixels`].
    pub fn batch_size(&self) -> usize {
        IMAGE_BATCH
    }

    /// Decodes an image file for [`Embedder::prepare`], which hides that it is not exact: see [`Picture::decode_for`].
    ///
    /// # Errors
    /// See [`Picture::decode`].
    pub fn decode(&self, bytes: &[u8]) -> Result<Picture, ImageError> {
        Picture::decode_for(bytes, &self.model.processor.transform)
    }

    /// Prepares an image; several can be at once on several threads.
    pub fn prepare(&self, image: &Picture) -> Pixels {
        Pixels(self.model.processor.transform.apply(image))
    }

    /// Vectors of images.
    pub fn images(&self, images: &[Picture]) -> Embeddings {
        let batches = images.chunks(IMAGE_BATCH);
        self.embed_batches(
            batches.map(|batch| {
                self.pixel_values(batch.len(), |i, normalize| normalize(&self.prepare(&batch[i])))
            }),
        )
    }

    /// Vectors of prepared images.
    pub fn pixels(&self, images: &[Pixels]) -> Embeddings {
        let batches = images.chunks(IMAGE_BATCH);
        self.embed_batches(
            batches.map(|batch| self.pixel_values(batch.len(), |i, normalize| normalize(&batch[i]))),
        )
    }

    /// Vectors of texts.
    ///
    /// # Errors
    /// A model that cannot read texts.
    pub fn texts(&self, texts: &[impl AsRef<str>]) -> Result<Texts, Error> {
        let batch = self.model.tokenizer.encode(texts)?;
        let dim = self.model.config().projection_dim;
        let mut values = Vec::with_capacity(texts.len() * dim);
        for ids in batch.ids.chunks(TEXT_BATCH * batch.context_length.max(1)) {
            let tokens = TokenIds { ids: ids.to_vec(), length: batch.context_length, attention_mask: None };
            let features = self.model.clip.text_features_by_length(&tokens, &Pass::eval());
            let normalized = self.features == ImageFeatures::Normalized;
            let vectors = if normalized { ops::l2_normalize(&features) } else { features };
            values.extend(vectors.to_vec());
        }
        Ok(Texts { embeddings: Embeddings::new(values, dim), truncated: batch.truncated })
    }

    /// Numbers in a prepared image.
    fn pixel_count(&self) -> usize {
        let size = self.model.config().vision.image_size();
        3 * size * size
    }

    /// The numbers of `count` images; `image` hands that of an index on.
    fn pixel_values(&self, count: usize, image: impl Fn(usize, &mut dyn FnMut(&Pixels)) + Sync) -> Vec<f32> {
        let normalizer = self.model.processor.transform.normalizer();
        let mut values = vec![0.0; count * self.pixel_count()];
        parallel_chunks_mut(&mut values, self.pixel_count(), |i, out| {
            image(i, &mut |pixels| normalizer.apply(&pixels.0, out));
        });
        values
    }

    fn embed_batches(&self, batches: impl Iterator<Item = Vec<f32>>) -> Embeddings {
        let size = self.model.config().vision.image_size();
        let embed = |values: Vec<f32>| {
            let pixel_values = Tensor::new(&values, &[values.len() / self.pixel_count(), 3, size, size]);
            self.model.clip.image_features_as(self.features, &pixel_values, &Pass::eval()).to_vec()
        };
        Embeddings::new(batches.flat_map(embed).collect(), self.dim())
    }
}
