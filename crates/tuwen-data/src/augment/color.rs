//! Changes of colour as linear maps.

use super::ColorJitter;
use crate::image::RgbImage;
use crate::rng::Rng;

/// Weights of red, green and blue in the luminance (ITU-R BT.601, as Pillow's mode L).
const LUMINANCE: [f32; 3] = [0.299, 0.587, 0.114];

/// A linear map of colours, `matrix * colour + offset` in 0 to 255.
pub(super) struct ColorMap {
    matrix: [[f32; 3]; 3],
    offset: f32,
}

impl ColorJitter {
    /// A random map; the contrast is about the mean luminance of the image.
    pub(super) fn choose(&self, image: &RgbImage, rng: &mut Rng) -> ColorMap {
        let mut factor = |range: f32| rng.range(1.0 - range, 1.0 + range);
        let (brightness, contrast, saturation) =
            (factor(self.brightness), factor(self.contrast), factor(self.saturation));
        let angle = rng.range(-self.hue, self.hue) * std::f32::consts::TAU;
        let gray = if self.contrast > 0.0 { mean_luminance(image) } else { 0.0 };
        let mut map = ColorMap::hue(angle).after(&ColorMap::saturation(saturation));
        map.matrix.as_flattened_mut().iter_mut().for_each(|value| *value *= brightness * contrast);
        // Grey stays what it is under both matrices, so the offset passes through them.
        map.offset = gray * brightness * (1.0 - contrast);
        map
    }
}

/// Mean luminance, in 0 to 255.
fn mean_luminance(image: &RgbImage) -> f32 {
    let mut sums = [0u64; 3];
    for pixel in image.data.as_chunks::<3>().0 {
        (0..3).for_each(|channel| sums[channel] += u64::from(pixel[channel]));
    }
    let pixels = (image.width * image.height).max(1) as f32;
    sums.iter().zip(LUMINANCE).map(|(&sum, weight)| sum as f32 * weight).sum::<f32>() / pixels
}

impl ColorMap {
    /// Towards grey (0) or away from it (above 1).
    pub(super) fn saturation(factor: f32) -> Self {
        let entry = |row: usize, column: usize| {
            LUMINANCE[column] * (1.0 - factor) + if row == column { factor } else { 0.0 }
        };
        Self {
            matrix: std::array::from_fn(|row| std::array::from_fn(|column| entry(row, column))),
            offset: 0.0,
        }
    }

    /// A rotation about the grey axis (Rodrigues).
    fn hue(angle: f32) -> Self {
        let (sin, cos) = angle.sin_cos();
        let (same, turn) = ((1.0 - cos) / 3.0, sin / 3f32.sqrt());
        let [a, b, c] = [cos + same, same - turn, same + turn];
        Self { matrix: [[a, b, c], [c, a, b], [b, c, a]], offset: 0.0 }
    }

    /// First the other map, then this one, whose offsets are 0.
    fn after(&self, first: &Self) -> Self {
        let entry = |row: usize, column: usize| {
            (0..3).map(|inner| self.matrix[row][inner] * first.matrix[inner][column]).sum()
        };
        Self {
            matrix: std::array::from_fn(|row| std::array::from_fn(|column| entry(row, column))),
            offset: 0.0,
        }
    }

    pub(super) fn apply(&self, image: &mut RgbImage) {
        for pixel in image.data.as_chunks_mut::<3>().0 {
            let color = pixel.map(f32::from);
            for (value, [red, green, blue]) in pixel.iter_mut().zip(self.matrix) {
                let mixed = red * color[0] + green * color[1] + blue * color[2] + self.offset;
                // A conversion from a float stops at 0 and 255.
                *value = (mixed + 0.5) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixel(color: [u8; 3]) -> RgbImage {
        RgbImage { width: 1, height: 1, data: color.to_vec() }
    }

    fn mapped(map: &ColorMap, color: [u8; 3]) -> Vec<u8> {
        let mut image = pixel(color);
        map.apply(&mut image);
        image.data
    }

    #[test]
    fn no_saturation_is_pillows_gray() {
        for (color, gray) in [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([10, 200, 90], 131)]
        {
            assert_eq!(mapped(&ColorMap::saturation(0.0), color), [gray; 3]);
            assert_eq!(mapped(&ColorMap::saturation(1.0), color), color);
        }
        assert_eq!(mapped(&ColorMap::saturation(2.0), [250, 10, 10]), [255, 0, 0], "stops at both ends");
    }

    #[test]
    fn a_third_of_the_circle_turns_the_channels() {
        let third = std::f32::consts::TAU / 3.0;
        assert_eq!(mapped(&ColorMap::hue(third), [200, 50, 10]), [10, 200, 50]);
        assert_eq!(mapped(&ColorMap::hue(0.3), [90, 90, 90]), [90, 90, 90], "grey stays");
    }

    #[test]
    fn jitter_is_its_steps_one_after_another() {
        let image = RgbImage { width: 2, height: 1, data: vec![120, 80, 100, 60, 140, 90] };
        let jitter = ColorJitter {
            brightness: 0.2,
            contrast: 0.2,
            saturation: 0.2,
            hue: 0.02,
            ..ColorJitter::default()
        };
        for seed in 0..50 {
            let map = jitter.choose(&image, &mut Rng::new(&[seed]));
            let mut draws = Rng::new(&[seed]);
            let mut factor = || draws.range(0.8, 1.2);
            let (brightness, contrast, saturation) = (factor(), factor(), factor());
            let angle = draws.range(-0.02, 0.02) * std::f32::consts::TAU;
            let bright: Vec<f32> = image.data.iter().map(|&value| f32::from(value) * brightness).collect();
            let mean = mean_luminance(&image) * brightness;
            for (color, start) in bright.chunks(3).zip([0, 3]) {
                let contrasted: Vec<f32> =
                    color.iter().map(|value| mean * (1.0 - contrast) + value * contrast).collect();
                let gray: f32 = contrasted.iter().zip(LUMINANCE).map(|(value, weight)| value * weight).sum();
                let saturated: Vec<f32> =
                    contrasted.iter().map(|value| gray * (1.0 - saturation) + value * saturation).collect();
                let turned = ColorMap::hue(angle)
                    .matrix
                    .map(|row| row.iter().zip(&saturated).map(|(weight, value)| weight * value).sum::<f32>());
                let mut whole = image.clone();
                map.apply(&mut whole);
                for (got, expected) in whole.data[start..start + 3].iter().zip(turned) {
                    assert!((f32::from(*got) - expected).abs() <= 0.51, "{got} {expected}");
                }
            }
        }
    }
}
