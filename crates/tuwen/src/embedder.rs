//! Images and texts to vectors.

use std::borrow::Cow;
use std::collections::HashMap;

use tuwen_data::image::{ImageError, Picture};
use tuwen_data::tokenizer::Truncated;
use tuwen_kernels::parallel_chunks_mut;
use tuwen_models::clip::ImageFeatures;

use crate::pixels::pixel_values;
use crate::{Embeddings, Error, Model, Pixels, Precision};

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
        self.model.towers.image_dim(self.features)
    }

    /// What the network multiplies in: vectors of different precisions differ a little.
    pub fn precision(&self) -> Precision {
        self.model.precision()
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
        Picture::decode_for(bytes, self.model.transform())
    }

    /// Prepares an image; several can be at once on several threads.
    pub fn prepare(&self, image: &Picture) -> Pixels {
        Pixels(self.model.transform().apply(image))
    }

    /// Vectors of images.
    pub fn images(&self, images: &[Picture]) -> Embeddings {
        self.embed(images.chunks(IMAGE_BATCH).map(|batch| Cow::Owned(self.prepare_all(batch))))
    }

    /// Vectors of prepared images.
    pub fn pixels(&self, images: &[Pixels]) -> Embeddings {
        self.embed(images.chunks(IMAGE_BATCH).map(Cow::Borrowed))
    }

    /// Vectors of texts; what occurs several times is computed once.
    ///
    /// # Errors
    /// A model that cannot read texts.
    pub fn texts(&self, texts: &[impl AsRef<str>]) -> Result<Texts, Error> {
        let towers = &self.model.towers;
        let (tokens, truncated) = towers.encode(texts)?;
        let dim = towers.text_dim();
        let normalized = self.features == ImageFeatures::Normalized;
        let (distinct, places) = distinct(tokens.ids.chunks_exact(tokens.length.max(1)));
        let mut computed = Vec::with_capacity(distinct.len() * dim);
        for rows in distinct.chunks(TEXT_BATCH) {
            computed.extend(towers.text_vectors(&tokens.select(rows), normalized).to_vec());
        }
        let values = places.iter().flat_map(|&place| &computed[place * dim..][..dim]).copied().collect();
        Ok(Texts { embeddings: Embeddings::new(values, dim), truncated })
    }

    /// Prepares images on all threads.
    fn prepare_all(&self, images: &[Picture]) -> Vec<Pixels> {
        let mut prepared = vec![None; images.len()];
        parallel_chunks_mut(&mut prepared, 1, |i, slot| slot[0] = Some(self.prepare(&images[i])));
        prepared.into_iter().flatten().collect()
    }

    fn embed<'p>(&self, batches: impl Iterator<Item = Cow<'p, [Pixels]>>) -> Embeddings {
        let towers = &self.model.towers;
        let embed = |batch: Cow<'p, [Pixels]>| {
            let pixel_values = pixel_values(towers.transform(), towers.image_size(), &batch);
            towers.image_vectors(self.features, &pixel_values).to_vec()
        };
        Embeddings::new(batches.flat_map(embed).collect(), self.dim())
    }
}

/// The first row of each kind among some rows, by its number, and for each row which of them it is.
fn distinct<'r>(rows: impl Iterator<Item = &'r [u32]>) -> (Vec<u32>, Vec<usize>) {
    let (mut distinct, mut known) = (Vec::new(), HashMap::new());
    let place = |(number, row): (u32, &'r [u32])| {
        *known.entry(row).or_insert_with(|| {
            distinct.push(number);
            distinct.len() - 1
        })
    };
    let places = (0..).zip(rows).map(place).collect();
    (distinct, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_again() {
        let rows: [&[u32]; 5] = [&[1, 2], &[3, 4], &[1, 2], &[1, 3], &[3, 4]];
        assert_eq!(distinct(rows.into_iter()), (vec![0, 1, 3], vec![0, 1, 0, 2, 1]));
    }
}
