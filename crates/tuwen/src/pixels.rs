//! Prepared images.

use tuwen_data::image::{RgbImage, Transform};
use tuwen_kernels::parallel_chunks_mut;
use tuwen_tensor::Tensor;

/// An image of the size that the network takes.
#[derive(Clone, Debug)]
pub struct Pixels(pub(crate) RgbImage);

impl From<RgbImage> for Pixels {
    /// An image that the model's own transform was applied to.
    fn from(image: RgbImage) -> Self {
        Self(image)
    }
}

/// The numbers of prepared images, `[images, 3, size, size]`, normalised on all threads.
pub(crate) fn pixel_values(transform: &Transform, size: usize, images: &[Pixels]) -> Tensor {
    let normalizer = transform.normalizer();
    let mut values = vec![0.0; images.len() * 3 * size * size];
    parallel_chunks_mut(&mut values, 3 * size * size, |i, out| normalizer.apply(&images[i].0, out));
    Tensor::new(&values, &[images.len(), 3, size, size])
}
