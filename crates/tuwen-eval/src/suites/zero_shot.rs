//! Zero-shot classification: images against prompts made from the names of the classes.

use tuwen::templates;

use crate::{Classes, Encoded, Encoder, EvalError, Metrics, metrics};

/// Metrics of naming the class of each image, each class described by its name in every template.
///
/// # Errors
/// Samples without a class, a template without `{}`, or a model that cannot read texts.
pub fn zero_shot<E: Encoder>(
    encoder: &E,
    encoded: &Encoded,
    templates: &[String],
) -> Result<Metrics, EvalError> {
    let classes = Classes::of(&encoded.samples, &encoded.data)?;
    let labels = classes.places(&encoded.samples, &encoded.data)?;
    let prompts = templates::fill(&classes.spoken(), templates)
        .map_err(|error| EvalError::Setting(error.to_string()))?;
    let vectors = metrics::ensemble(encoder.texts(&prompts)?, templates.len());
    Ok(metrics::zero_shot(&encoded.images, &vectors, &labels))
}
