//! Writing a trained BLIP or ALBEF for others to load.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use tuwen_models::albef::weights::to_salesforce;
use tuwen_models::albef::{Albef, AlbefConfig};
use tuwen_models::blip::weights::Layout;
use tuwen_models::blip::{Blip, BlipConfig, BlipTask};
use tuwen_tensor::checkpoint::{
    Cast, StoredType, TensorSource, replace_directory, write_atomically, write_source,
};

use super::GroundedPreparation;
use super::network::save_tokenizer;
use crate::TrainError;
use crate::recipe::ExportType;

/// ALBEF as its program names it, with the files from which its sizes are read.
pub(super) fn write_albef(
    config: &AlbefConfig,
    albef: &Albef,
    preparation: &GroundedPreparation,
    directory: &Path,
    dtype: ExportType,
) -> Result<(), TrainError> {
    let (text, vision) = (&config.text, &config.vision);
    let of_texts = json!({
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": text.hidden_size,
        "intermediate_size": text.intermediate_size,
        "layer_norm_eps": text.layer_norm_eps,
        "max_position_embeddings": text.max_position_embeddings,
        "num_attention_heads": text.num_attention_heads,
        "num_hidden_layers": text.num_hidden_layers,
        "type_vocab_size": text.type_vocab_size,
        "vocab_size": text.vocab_size,
        "fusion_layer": config.fusion_layer(),
        "encoder_width": vision.hidden_size,
    });
    let arguments =
        json!({ "vision_heads": vision.num_attention_heads, "vision_layer_norm_eps": vision.layer_norm_eps });
    let documents =
        [("config_bert.json", format!("{of_texts:#}\n")), ("config.json", format!("{arguments:#}\n"))];
    let weights = Cast::new(to_salesforce(albef.parameters()), StoredType::from(dtype));
    write_files(directory, &weights, &documents, preparation)
}

/// Writes a directory in place of what is there: weights in transformers' layout where it has such a class, else under our
/// names, each tensor once; configuration, preparation of images and vocabulary.
pub(super) fn write(
    blip: &Blip,
    config: &BlipConfig,
    preparation: &GroundedPreparation,
    directory: &Path,
    dtype: ExportType,
) -> Result<(), TrainError> {
    let processor = preparation.processor.clone().resized(preparation.image_size).to_hf_json();
    let processor = processor.map_err(|error| TrainError::Model(error.to_string()))?;
    let documents =
        [("config.json", format!("{:#}\n", config.to_json())), ("preprocessor_config.json", processor)];
    let weights: Box<dyn TensorSource + '_> = match config.task {
        BlipTask::Pretrain | BlipTask::Nlvr => Box::new(blip.parameters()),
        _ => Box::new(Layout::HuggingFace.export(blip.parameters())),
    };
    let weights = Cast::new(weights, StoredType::from(dtype));
    write_files(directory, &weights, &documents, preparation)
}

fn write_files(
    directory: &Path,
    weights: &dyn TensorSource,
    documents: &[(&str, String)],
    preparation: &GroundedPreparation,
) -> Result<(), TrainError> {
    replace_directory(directory, |building| {
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_source(&building.join("model.safetensors"), weights, &metadata, &mut |_| {})?;
        for (name, text) in documents {
            write_atomically(&building.join(name), |out| out.write_all(text.as_bytes()))?;
        }
        save_tokenizer(&preparation.tokenizer, building)
    })
}
