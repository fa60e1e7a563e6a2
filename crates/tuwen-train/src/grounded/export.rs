//! Writing a trained BLIP for others to load.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use tuwen_models::blip::BlipTask;
use tuwen_models::blip::weights::Layout;
use tuwen_tensor::checkpoint::{
    Cast, StoredType, TensorSource, replace_directory, write_atomically, write_source,
};

use super::Grounded;
use super::network::save_tokenizer;
use crate::TrainError;
use crate::recipe::ExportType;

/// Writes a directory in place of what is there: weights in transformers' layout where it has such a class, else under our
/// names, each tensor once; configuration, preparation of images and vocabulary.
pub(super) fn write(grounded: &Grounded, directory: &Path, dtype: ExportType) -> Result<(), TrainError> {
    let Grounded { blip, config, preparation, .. } = grounded;
    let processor = preparation.processor.clone().resized(preparation.image_size).to_hf_json();
    let processor = processor.map_err(|error| TrainError::Model(error.to_string()))?;
    let documents =
        [("config.json", format!("{:#}\n", config.to_json())), ("preprocessor_config.json", processor)];
    let weights: Box<dyn TensorSource + '_> = match config.task {
        BlipTask::Pretrain => Box::new(blip.parameters()),
        _ => Box::new(Layout::HuggingFace.export(blip.parameters())),
    };
    let weights = Cast::new(weights, StoredType::from(dtype));
    replace_directory(directory, |building| {
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_source(&building.join("model.safetensors"), &weights, &metadata, &mut |_| {})?;
        for (name, text) in &documents {
            write_atomically(&building.join(name), |out| out.write_all(text.as_bytes()))?;
        }
        save_tokenizer(&preparation.tokenizer, building)
    })
}
