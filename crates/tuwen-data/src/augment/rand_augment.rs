//! RandAugment (arXiv 1909.13719) with the operations of BLIP and ALBEF.
//!
//! Reference: salesforce/BLIP `transform/randaugment.py`, whose results these are, slips included: AutoContrast turns a
//! channel without black into white, and brightness and sharpness change nothing at the magnitude that BLIP trains with.

use serde::{Deserialize, Serialize};

use super::tables::{auto_contrast, brighten, equalize};
use super::warp::{sharpen, warp};
use crate::image::RgbImage;
use crate::rng::Rng;

/// The magnitude of the strongest operation.
const MOST: f32 = 10.0;

/// Operations that are drawn for each image, each of which is left out half of the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandAugment {
    /// How many are drawn; the same one may be drawn again.
    pub operations: usize,
    /// How strong they are, from 0 to 10.
    pub magnitude: f32,
}

impl Default for RandAugment {
    /// BLIP's; ALBEF has a magnitude of 7.
    fn default() -> Self {
        Self { operations: 2, magnitude: 5.0 }
    }
}

/// What is done to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Nothing.
    Identity,
    /// Stretches each channel to the whole range.
    AutoContrast,
    /// Multiplies all values.
    Brightness,
    /// Moves away from a blurred copy.
    Sharpness,
    /// Makes all values of a channel equally frequent.
    Equalize,
    /// Shifts each row by a part of its number.
    ShearX,
    /// Shifts each column by a part of its number.
    ShearY,
    /// Shifts to the left, in pixels.
    TranslateX,
    /// Shifts upwards, in pixels.
    TranslateY,
    /// Rotates anticlockwise, in degrees.
    Rotate,
}

/// Those that are drawn from.
const OPERATIONS: [Operation; 10] = [
    Operation::Identity,
    Operation::AutoContrast,
    Operation::Brightness,
    Operation::Sharpness,
    Operation::Equalize,
    Operation::ShearX,
    Operation::ShearY,
    Operation::TranslateX,
    Operation::TranslateY,
    Operation::Rotate,
];

impl Operation {
    /// The operation that the reference calls so, if it draws from it.
    pub fn named(name: &str) -> Option<Self> {
        OPERATIONS.into_iter().find(|operation| format!("{operation:?}") == name)
    }

    /// What it takes at a magnitude, and whether the sign is drawn.
    fn argument(self, magnitude: f32) -> (f32, bool) {
        let part = magnitude / MOST;
        match self {
            Self::Identity | Self::AutoContrast | Self::Equalize => (0.0, false),
            Self::Brightness | Self::Sharpness => (1.8 * part + 0.1, false),
            Self::ShearX | Self::ShearY => (0.3 * part, true),
            Self::TranslateX | Self::TranslateY => (10.0 * part, true),
            Self::Rotate => (30.0 * part, true),
        }
    }

    /// Does it with an argument: a factor, a part, pixels or degrees.
    pub fn apply(self, image: &mut RgbImage, argument: f32) {
        let argument = f64::from(argument);
        match self {
            Self::Identity => {}
            Self::AutoContrast => auto_contrast(image),
            Self::Brightness => brighten(image, argument as f32),
            Self::Sharpness => sharpen(image, argument as f32),
            Self::Equalize => equalize(image),
            Self::ShearX => warp(image, [[1.0, argument, 0.0], [0.0, 1.0, 0.0]]),
            Self::ShearY => warp(image, [[1.0, 0.0, 0.0], [argument, 1.0, 0.0]]),
            Self::TranslateX => warp(image, [[1.0, 0.0, -argument], [0.0, 1.0, 0.0]]),
            Self::TranslateY => warp(image, [[1.0, 0.0, 0.0], [0.0, 1.0, -argument]]),
            Self::Rotate => {
                let rotation = rotation(image.width as f64 / 2.0, image.height as f64 / 2.0, argument);
                warp(image, rotation);
            }
        }
    }
}

/// About a point, anticlockwise as rows count downwards.
fn rotation(x: f64, y: f64, degrees: f64) -> [[f64; 3]; 2] {
    let (sin, cos) = degrees.to_radians().sin_cos();
    [[cos, sin, (1.0 - cos) * x - sin * y], [-sin, cos, sin * x + (1.0 - cos) * y]]
}

impl RandAugment {
    pub(super) fn apply(&self, image: &mut RgbImage, rng: &mut Rng) {
        let drawn: Vec<Operation> =
            (0..self.operations).map(|_| OPERATIONS[rng.below(OPERATIONS.len() as u64) as usize]).collect();
        for operation in drawn {
            if rng.chance(0.5) {
                let (argument, signed) = operation.argument(self.magnitude);
                let negative = signed && rng.chance(0.5);
                operation.apply(image, if negative { -argument } else { argument });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brightness_and_sharpness_are_identities_at_blips_magnitude() {
        for operation in [Operation::Brightness, Operation::Sharpness] {
            assert_eq!(operation.argument(5.0), (1.0, false));
        }
        assert_eq!(Operation::Rotate.argument(7.0), (21.0, true));
    }

    #[test]
    fn a_seed_decides_what_is_drawn() {
        let image = RgbImage { width: 12, height: 9, data: (0..12 * 9 * 3).map(|i| (i * 7) as u8).collect() };
        let varied = |seed| {
            let mut image = image.clone();
            RandAugment { magnitude: 7.0, ..RandAugment::default() }
                .apply(&mut image, &mut Rng::new(&[seed]));
            image.data
        };
        let all: Vec<Vec<u8>> = (0..40).map(varied).collect();
        assert_eq!(all[3], varied(3));
        assert!(all.contains(&image.data) && all.iter().any(|data| *data != image.data));
    }
}
