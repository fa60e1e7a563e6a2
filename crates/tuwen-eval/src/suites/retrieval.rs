//! Retrieval: images and their captions find each other.

use tuwen_data::dataset::Sample;

use crate::{Encoded, Encoder, EvalError, Metrics, metrics};

/// All captions of a data set.
pub(super) struct Captions {
    pub texts: Vec<String>,
    /// The row of the image that each describes.
    pub image_of_text: Vec<usize>,
}

impl Captions {
    pub fn of(encoded: &Encoded) -> Result<Self, EvalError> {
        let texts: Vec<String> = encoded.samples.iter().flat_map(|sample| sample.texts.clone()).collect();
        if texts.is_empty() {
            return Err(EvalError::NoCaptions(encoded.data.clone()));
        }
        let of_image = |(image, sample): (usize, &Sample)| vec![image; sample.texts.len()];
        let image_of_text = encoded.samples.iter().enumerate().flat_map(of_image).collect();
        Ok(Self { texts, image_of_text })
    }
}

/// Recall between the images of a data set and all of its captions.
///
/// # Errors
/// No captions, or a model that cannot read them.
pub fn retrieval<E: Encoder>(encoder: &E, encoded: &Encoded) -> Result<Metrics, EvalError> {
    let Captions { texts, image_of_text } = Captions::of(encoded)?;
    Ok(metrics::retrieval(&encoded.images, &encoder.texts(&texts)?, &image_of_text))
}
