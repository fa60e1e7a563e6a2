//! From bytes to normalised numbers.

use super::RgbImage;

/// What each byte of each channel becomes, usually `(value / 255 - mean) / std`.
#[derive(Clone, Debug)]
pub struct Normalizer {
    tables: [[f32; 256]; 3],
}

impl Normalizer {
    /// For this mean and standard deviation of red, green and blue, in parts of 255.
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        Self::with(|channel, value| (f32::from(value) / 255.0 - mean[channel]) / std[channel])
    }

    /// For a function of channel and byte.
    pub(super) fn with(function: impl Fn(usize, u8) -> f32) -> Self {
        let table = |channel| std::array::from_fn(|value| function(channel, value as u8));
        Self { tables: std::array::from_fn(table) }
    }

    /// Writes the planes of the image (red row by row, green, blue) to `output`.
    pub fn apply(&self, image: &RgbImage, output: &mut [f32]) {
        let planes = output.chunks_exact_mut((image.width * image.height).max(1));
        for (channel, (plane, table)) in planes.zip(&self.tables).enumerate() {
            for (value, pixel) in plane.iter_mut().zip(image.data.chunks_exact(3)) {
                *value = table[usize::from(pixel[channel])];
            }
        }
    }
}
