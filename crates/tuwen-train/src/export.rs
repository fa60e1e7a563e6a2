//! Models for others to load.

use tuwen::export::{Export, Parts, Target};
use tuwen_models::clip::ClipConfig;
use tuwen_nn::Parameters;

use crate::TrainError;
use crate::data::Preparation;
use crate::recipe::ExportType;

/// A network with what prepares its inputs, in the layout that most programs load: transformers', or open_clip's for
/// what transformers lacks.
///
/// # Errors
/// Something that the layout has no place for; nothing is written before.
pub(crate) fn prepared<'m>(
    config: &'m ClipConfig,
    parameters: &'m Parameters,
    preparation: &'m Preparation,
    dtype: ExportType,
) -> Result<Export<'m>, TrainError> {
    let parts = Parts {
        config,
        weights: parameters,
        processor: &preparation.processor,
        tokenizer: Some(&preparation.tokenizer),
    };
    Ok(Export::new(parts, Target::usual(config), dtype.into())?)
}
