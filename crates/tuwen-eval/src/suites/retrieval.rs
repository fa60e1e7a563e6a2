//! Retrieval: images and their captions find each other.

use tuwen_data::dataset::Sample;

use crate::{Encoded, Encoder, EvalError, Metrics, metrics};

/// Recall between the images of a data set and all of its captions.
///
/// # Errors
/// No captions, or a model that cannot read them.
pub fn retrieval<E: Encoder>(encoder: &E, encoded: &Encoded) -> Result<Metrics, EvalError> {
    let texts: Vec<String> = encoded.samples.iter().flat_map(|sample| sample.texts.clone()).collect();
    if texts.is_empty() {
        return Err(EvalError::NoCaptions(encoded.data.clone()));
    }
    let of_image = |(image, sample): (usize, &Sample)| vec![image; sample.texts.len()];
    let image_of_text: Vec<usize> = encoded.samples.iter().enumerate().flat_map(of_image).collect();
    Ok(metrics::retrieval(&encoded.images, &encoder.texts(&texts)?, &image_of_text))
}
