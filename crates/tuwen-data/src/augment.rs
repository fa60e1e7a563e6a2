//! Augmentation of images and captions for training, and the plain preparation for evaluation.
//!
//! An image leaves as `f32` planes (channel, row, column), normalised. Every random choice comes from the generator
//! that is passed in.

use serde::{Deserialize, Serialize};

use crate::dataset::DataError;
pub use crate::image::Normalizer;
use crate::image::{Interpolation, RgbImage, resize};
use crate::rng::Rng;

mod color;
mod geometry;
mod rand_augment;
mod tables;
mod warp;

use color::ColorMap;
use geometry::{cut, flip, translate};
pub use rand_augment::{Operation, RandAugment};

/// How samples are varied. The default varies nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// How an image becomes square where `random_resized_crop` is not given.
    pub fit: Fit,
    /// Cuts out a random rectangle and resizes it to the square.
    pub random_resized_crop: Option<RandomResizedCrop>,
    /// Shifts by up to this fraction of the size in both directions, filling up by reflection.
    pub translate: f32,
    /// Probability of a mirror image.
    pub horizontal_flip: f32,
    /// Some of ten operations on colour and shape, as BLIP and ALBEF train with.
    pub rand_augment: Option<RandAugment>,
    /// Random changes of colour.
    pub color_jitter: Option<ColorJitter>,
    /// Probability of a grey image.
    pub grayscale: f32,
    /// Fills a random rectangle with the mean colour.
    pub random_erasing: Option<RandomErasing>,
    /// Probability for each word of a caption to be left out; one word always stays.
    pub word_dropout: f32,
}

/// How an image becomes square, always with bicubic resizing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// The shorter side to size, then the middle (CLIP).
    #[default]
    CenterCrop,
    /// Both sides to size.
    Squash,
}

/// torchvision's `RandomResizedCrop`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Part of the area, from and to.
    pub scale: [f32; 2],
    /// Width divided by height, from and to; uniform in the logarithm.
    pub ratio: [f32; 2],
}

impl Default for RandomResizedCrop {
    /// As open_clip trains: nearly the whole image.
    fn default() -> Self {
        Self { scale: [0.9, 1.0], ratio: [0.75, 4.0 / 3.0] }
    }
}

/// Random changes of colour: brightness, contrast and saturation are multiplied by a factor between one less and one
/// more than their value here, the hue is turned by up to `hue` of a circle. Applied in this order as one linear map
/// with a single rounding (the hue is a rotation about the grey axis), not as four steps like torchvision's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)] // described above
pub struct ColorJitter {
    /// Probability of any change.
    pub probability: f32,
    pub brightness: f32,
    pub contrast: f32,
    pub saturation: f32,
    pub hue: f32,
}

impl Default for ColorJitter {
    fn default() -> Self {
        Self { probability: 1.0, brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0 }
    }
}

/// torchvision's `RandomErasing` with the mean colour (0 after normalisation).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomErasing {
    /// Probability of a rectangle.
    pub probability: f32,
    /// Part of the area, from and to.
    pub scale: [f32; 2],
    /// Height divided by width, from and to; uniform in the logarithm.
    pub ratio: [f32; 2],
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self { probability: 0.5, scale: [0.02, 0.33], ratio: [0.3, 10.0 / 3.0] }
    }
}

impl Augment {
    /// Checks that probabilities lie in 0 to 1 and that ranges run upwards.
    pub fn validate(&self) -> Result<(), DataError> {
        let fail = |option, problem: String| Err(DataError::Option { option, problem });
        let jitter = self.color_jitter.clone().unwrap_or_default();
        let erasing = self.random_erasing.clone().unwrap_or_default();
        for (option, value, high) in [
            ("augment.translate", self.translate, 0.5),
            ("augment.horizontal_flip", self.horizontal_flip, 1.0),
            ("augment.grayscale", self.grayscale, 1.0),
            ("augment.word_dropout", self.word_dropout, 1.0),
            ("augment.color_jitter.probability", jitter.probability, 1.0),
            ("augment.color_jitter.brightness", jitter.brightness, 1.0),
            ("augment.color_jitter.contrast", jitter.contrast, 1.0),
            ("augment.color_jitter.saturation", jitter.saturation, 1.0),
            ("augment.color_jitter.hue", jitter.hue, 0.5),
            ("augment.random_erasing.probability", erasing.probability, 1.0),
        ] {
            if !(0.0..=high).contains(&value) {
                return fail(option, format!("expected 0 to {high}, got {value}"));
            }
        }
        let magnitude = self.rand_augment.as_ref().map_or(0.0, |augment| augment.magnitude);
        if !(0.0..=10.0).contains(&magnitude) {
            return fail("augment.rand_augment.magnitude", format!("expected 0 to 10, got {magnitude}"));
        }
        let crop = self.random_resized_crop.clone().unwrap_or_default();
        for (option, [low, high], most) in [
            ("augment.random_resized_crop.scale", crop.scale, 1.0),
            ("augment.random_resized_crop.ratio", crop.ratio, f32::MAX),
            ("augment.random_erasing.scale", erasing.scale, 1.0),
            ("augment.random_erasing.ratio", erasing.ratio, f32::MAX),
        ] {
            if !(0.0 < low && low <= high && high <= most) {
                return fail(
                    option,
                    format!("expected two numbers above 0 in rising order, got {low}, {high}"),
                );
            }
        }
        Ok(())
    }

    /// Writes the image, varied and normalised, to `output` of `3 * size * size` numbers.
    pub fn image(
        &self,
        image: &RgbImage,
        normalizer: &Normalizer,
        size: usize,
        rng: &mut Rng,
        output: &mut [f32],
    ) {
        let mut square = match &self.random_resized_crop {
            Some(crop) => {
                let area = crop.choose(image.width, image.height, rng);
                resize(&cut(image, area), size, size, Interpolation::Bicubic)
            }
            None => self.fit.apply(image, size),
        };
        if self.translate > 0.0 {
            let most = (self.translate * size as f32).round() as i64;
            let mut shift = || rng.below(2 * most as u64 + 1) as i64 - most;
            let (right, down) = (shift(), shift());
            square = translate(&square, right, down);
        }
        if rng.chance(self.horizontal_flip) {
            flip(&mut square);
        }
        if let Some(rand_augment) = &self.rand_augment {
            rand_augment.apply(&mut square, rng);
        }
        if let Some(jitter) = &self.color_jitter
            && rng.chance(jitter.probability)
        {
            jitter.choose(&square, rng).apply(&mut square);
        }
        if rng.chance(self.grayscale) {
            ColorMap::saturation(0.0).apply(&mut square);
        }
        normalizer.apply(&square, output);
        if let Some(erasing) = &self.random_erasing
            && rng.chance(erasing.probability)
        {
            erasing.apply(size, rng, output);
        }
    }

    /// One of the texts, with words left out; none if there are no texts.
    pub fn text(&self, texts: &[String], rng: &mut Rng) -> Option<String> {
        self.texts(texts, 1, rng).pop()
    }

    /// So many of the texts, or all if they are fewer, with words left out.
    pub fn texts(&self, texts: &[String], count: usize, rng: &mut Rng) -> Vec<String> {
        let mut left: Vec<&String> = texts.iter().collect();
        let draws = 0..count.min(texts.len());
        draws
            .map(|_| {
                let text = left.swap_remove(rng.below(left.len() as u64) as usize);
                self.without_words(text, rng)
            })
            .collect()
    }

    fn without_words(&self, text: &str, rng: &mut Rng) -> String {
        if self.word_dropout == 0.0 {
            return text.to_owned();
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut kept: Vec<&str> = words.iter().copied().filter(|_| !rng.chance(self.word_dropout)).collect();
        if kept.is_empty() {
            kept.extend(words.get(rng.below(words.len() as u64) as usize));
        }
        kept.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> RgbImage {
        let data =
            (0..40 * 30 * 3).map(|place: u32| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        RgbImage { width: 40, height: 30, data }
    }

    fn run(augment: &Augment, seed: u64) -> Vec<f32> {
        let mut output = vec![f32::NAN; 3 * 16 * 16];
        let normalizer = Normalizer::new([0.5; 3], [0.25; 3]);
        augment.image(&picture(), &normalizer, 16, &mut Rng::new(&[seed]), &mut output);
        output
    }

    #[test]
    fn the_default_varies_nothing() {
        let plain = run(&Augment::default(), 1);
        assert_eq!(plain, run(&Augment::default(), 2));
        let square = Fit::CenterCrop.apply(&picture(), 16);
        for (place, value) in plain.iter().enumerate() {
            let byte = square.data[place % 256 * 3 + place / 256];
            assert_eq!(*value, (f32::from(byte) / 255.0 - 0.5) / 0.25);
        }
        let texts = ["a b c".to_owned()];
        assert_eq!(Augment::default().text(&texts, &mut Rng::new(&[1])).unwrap(), texts[0]);
    }

    #[test]
    fn every_step_varies_and_repeats() {
        let recipe = r#"
            random_resized_crop = { scale = [0.5, 1.0] }
            ;translate = 0.1
            ;horizontal_flip = 0.5
            ;color_jitter = { brightness = 0.4, contrast = 0.4, saturation = 0.4, hue = 0.1 }
            ;grayscale = 0.5
            ;random_erasing = { probability = 1.0 }
        "#;
        for step in recipe.split(';').chain([recipe.replace(';', "").as_str()]) {
            let augment: Augment = toml::from_str(step).unwrap();
            augment.validate().unwrap();
            let outputs: Vec<Vec<f32>> = (0..20).map(|seed| run(&augment, seed)).collect();
            assert!(outputs.iter().any(|output| output != &outputs[0]), "{step}");
            assert!(outputs.iter().flatten().all(|value| (-2.0..=2.0).contains(value)), "{step}");
            assert_eq!(outputs[7], run(&augment, 7), "{step}");
        }
    }

    #[test]
    fn words_drop_but_never_all() {
        let texts = ["one two three four".to_owned(), "five".to_owned()];
        let augment = Augment { word_dropout: 0.5, ..Augment::default() };
        let mut rng = Rng::new(&[5]);
        let drawn: std::collections::BTreeSet<String> =
            (0..500).map(|_| augment.text(&texts, &mut rng).unwrap()).collect();
        assert_eq!(drawn.len(), 16, "each choice of words of the first, and the second: {drawn:?}");
        let all = Augment { word_dropout: 1.0, ..Augment::default() };
        assert_eq!(all.text(&texts[..1], &mut rng).unwrap().split(' ').count(), 1);
        assert_eq!(all.text(&[], &mut rng), None);
        assert_eq!(all.text(&[" ".to_owned()], &mut rng).unwrap(), "");
    }

    #[test]
    fn recipes_are_checked() {
        for bad in [
            "horizontal_flip = 1.5",
            "word_dropout = -0.1",
            "translate = 0.6",
            "grayscale = nan",
            "rand_augment = { magnitude = 11.0 }",
            "random_resized_crop = { scale = [0.9, 0.5] }",
            "random_resized_crop = { ratio = [0.0, 1.0] }",
            "random_resized_crop = { scale = [0.5, 1.5] }",
            "color_jitter = { hue = 0.7 }",
            "random_erasing = { probability = 2.0 }",
        ] {
            let augment: Augment = toml::from_str(bad).unwrap();
            let message = augment.validate().unwrap_err().to_string();
            assert!(message.contains("augment."), "{bad}: {message}");
        }
        assert!(toml::from_str::<Augment>("flip = 0.5").is_err());
        assert_eq!(toml::from_str::<Augment>("fit = \"squash\"").unwrap().fit, Fit::Squash);
    }
}
