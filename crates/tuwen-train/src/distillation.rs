//! Learning from the vectors of a model that has learnt: feature distillation, the strongest single loss of CLIP-KD
//! (arXiv 2307.12732), with teachers of any kind that compare images and texts.

use std::sync::Arc;

use tuwen::{Model, Options};
use tuwen_data::image::{Picture, RgbImage, Transform};
use tuwen_tensor::{Tensor, ops};

use crate::{Keys, Recipe, TrainError};

/// The name of the loss in the log.
pub(crate) const DISTILLATION: &str = "distillation";

/// A model whose vectors are learnt.
pub(crate) struct Distillation {
    teacher: Model,
    /// How pixel values were made of the colours that the teacher is to see.
    transform: Transform,
    image_size: usize,
}

impl Distillation {
    /// The teacher that a recipe names, if it does, for a network whose images are prepared by `transform`, with
    /// `image_size` pixels a side, and whose vectors have `dim` numbers.
    ///
    /// # Errors
    /// A teacher that cannot be loaded, that compares no images and texts, or whose vectors have another length.
    pub fn open(
        recipe: &Recipe,
        transform: &Transform,
        image_size: usize,
        dim: usize,
    ) -> Result<Option<Arc<Self>>, TrainError> {
        let Some(settings) = &recipe.distillation else { return Ok(None) };
        let options = Options { precision: recipe.train.precision.into(), ..Options::default() };
        let teacher = tuwen::load(&recipe.model_name(&settings.teacher), &options)?;
        teacher.require(tuwen::Ability::Compare)?;
        let taught = teacher.embedder().dim();
        if taught != dim {
            return Err(TrainError::Model(format!(
                "vectors of {}, from which it is to learn, have {taught} numbers; those of the network have {dim}",
                teacher.name()
            )));
        }
        Ok(Some(Arc::new(Self { teacher, transform: transform.clone(), image_size })))
    }

    /// What the teacher makes of images as the network sees them, each `[3, image_size, image_size]`, and of a text of
    /// each: two tensors `[images, dim]` of unit vectors.
    ///
    /// # Errors
    /// Texts that the teacher cannot read.
    pub fn look<'t>(
        &self,
        pixel_values: impl Iterator<Item = &'t [f32]>,
        texts: impl Iterator<Item = &'t String>,
    ) -> Result<Keys, TrainError> {
        let pictures: Vec<Picture> = pixel_values.map(|image| self.picture(image)).collect();
        let images = self.teacher.embed_images(&pictures);
        let texts = self.teacher.embed_texts(&texts.collect::<Vec<_>>())?.embeddings;
        let tensor = |rows: tuwen::Embeddings| Tensor::new(rows.values(), &[rows.len(), rows.dim()]);
        Ok(Keys { images: tensor(images), texts: tensor(texts) })
    }

    /// The colours of an image.
    fn picture(&self, image: &[f32]) -> Picture {
        let plane = self.image_size * self.image_size;
        let Transform { mean, std, .. } = &self.transform;
        let colour = |at: usize| (0..3).map(move |c| (image[c * plane + at] * std[c] + mean[c]) * 255.0);
        let data = (0..plane).flat_map(colour).map(|value| value.round() as u8).collect();
        RgbImage { width: self.image_size, height: self.image_size, data }.into()
    }
}

/// Squared distances between unit vectors of images and texts and those of the teacher, averaged over the pairs.
pub(crate) fn loss([image, text]: &[Tensor; 2], taught: &Keys, weight: f64) -> Tensor {
    let pairs = image.shape()[0] as f32;
    let cosines =
        ops::add(&ops::sum(&ops::mul(image, &taught.images)), &ops::sum(&ops::mul(text, &taught.texts)));
    // |a - b|² = 2 - 2 a·b for both.
    let distance = ops::add(&ops::scale(&cosines, -2.0 / pairs), &Tensor::full(4.0, &[]));
    ops::scale(&distance, weight as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_squared_and_averaged() {
        let image = Tensor::new(&[1.0, 0.0, 0.6, 0.8], &[2, 2]).leaf();
        let text = Tensor::new(&[0.0, 1.0, 1.0, 0.0], &[2, 2]);
        let taught = Keys {
            images: Tensor::new(&[0.0, 1.0, 0.6, 0.8], &[2, 2]),
            texts: Tensor::new(&[0.0, 1.0, -1.0, 0.0], &[2, 2]),
        };
        // (1 + 1) and 0 for the images, 0 and 4 for the texts.
        let loss = loss(&[image.clone(), text], &taught, 0.5);
        assert!((loss.item() - 0.5 * (2.0 + 4.0) / 2.0).abs() < 1e-6, "{}", loss.item());
        let gradient = loss.backward().take(&image).expect("x is a leaf").to_vec();
        assert_eq!(gradient, [0.0, -0.5, -0.3, -0.4]);
    }
}
