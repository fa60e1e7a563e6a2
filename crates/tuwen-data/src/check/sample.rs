//! What a look at one sample finds.

use sha2::{Digest, Sha256};

use super::{CheckOptions, Problem};
use crate::dataset::{Dataset, Sample};
use crate::image::{MAX_ASPECT, decode_rgb, dimensions};

/// Half a SHA-256: enough to tell any number of images and texts apart.
pub(super) type Hash = [u8; 16];

/// What is known of a sample.
pub(super) struct Facts {
    /// Its number.
    pub(super) index: usize,
    /// Its name, if it could be read.
    pub(super) key: String,
    /// What is wrong with it by itself, and what there is to say of that.
    pub(super) problems: Vec<(Problem, String)>,
    /// Its image, if it has one.
    pub(super) image: Option<Hash>,
    /// Its texts.
    pub(super) texts: Vec<Hash>,
}

impl Facts {
    /// Reads a sample and looks at it.
    pub(super) fn of(dataset: &dyn Dataset, index: usize, options: &CheckOptions) -> Self {
        match dataset.get(index) {
            Ok(sample) => Self::of_sample(index, sample, options),
            Err(error) => {
                let problem = if error.is_missing() { Problem::MissingImage } else { Problem::Unreadable };
                let key = format!("sample {index}");
                Self {
                    index,
                    key,
                    problems: vec![(problem, error.to_string())],
                    image: None,
                    texts: Vec::new(),
                }
            }
        }
    }

    fn of_sample(index: usize, sample: Sample, options: &CheckOptions) -> Self {
        let Sample { key, image, mut texts, class_name, label, questions, .. } = sample;
        if options.questions {
            texts.extend(questions.into_iter().map(|question| question.question));
        }
        let mut problems = Vec::new();
        if image.is_empty() {
            problems.push((Problem::MissingImage, key.clone()));
        } else {
            problems.extend(
                image_problem(&image, options).map(|(problem, what)| (problem, format!("{key}: {what}"))),
            );
        }
        if options.classes {
            texts.clear();
            if class_name.is_none() && label.is_none() {
                problems.push((Problem::NoClass, key.clone()));
            }
        } else if texts.iter().all(|text| text.trim().is_empty()) {
            problems.push((Problem::NoText, key.clone()));
        }
        let image = Some(image).filter(|image| !image.is_empty()).map(|image| hash(&image));
        let texts = texts.iter().map(|text| hash(text.trim().as_bytes())).collect();
        Self { index, key, problems, image, texts }
    }

    /// Whether it can be learnt from.
    pub(super) fn is_usable(&self) -> bool {
        !self.problems.iter().any(|(problem, _)| problem.is_fatal())
    }
}

/// What is wrong with an image.
fn image_problem(image: &[u8], options: &CheckOptions) -> Option<(Problem, String)> {
    let size = dimensions(image).and_then(|size| {
        if options.complete {
            decode_rgb(image)?;
        }
        Ok(size)
    });
    let (width, height) = match size {
        Ok(size) => size,
        Err(error) => return Some((Problem::Unreadable, error.to_string())),
    };
    let (short, long) = (width.min(height), width.max(height));
    let problem = if short.saturating_mul(MAX_ASPECT as u64) < long {
        Problem::Sliver
    } else if short < options.min_side {
        Problem::TinyImage
    } else if width.saturating_mul(height) > options.max_pixels {
        Problem::HugeImage
    } else {
        return None;
    };
    Some((problem, format!("{width} x {height} pixels")))
}

fn hash(bytes: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(&Sha256::digest(bytes)[..16]);
    hash
}
