//! Writing a model for others to load.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use serde_json::{Value, json};
use tuwen_models::clip::processor::ProcessorError;
use tuwen_models::clip::{ClipConfig, weights};
use tuwen_nn::Parameters;
use tuwen_tensor::checkpoint::{
    CheckpointError, DType, RawTensor, TensorSource, quantize_rows_i8, write_atomically, write_safetensors,
};

use crate::data::Preparation;
use crate::recipe::ExportType;
use crate::{TrainError, directory};

/// Writes a CLIP model with its configuration, preprocessing and tokenizer, in place of what is there: as transformers
/// loads it, or, for a ResNet, which transformers lacks, as open_clip does.
pub(crate) fn clip(
    directory: &Path,
    config: &ClipConfig,
    parameters: &Parameters,
    preparation: &Preparation,
    dtype: ExportType,
) -> Result<(), TrainError> {
    directory::replace(directory, |directory| fill(directory, config, parameters, preparation, dtype))
}

/// Writes the files of [`clip`] into a directory.
pub(crate) fn fill(
    directory: &Path,
    config: &ClipConfig,
    parameters: &Parameters,
    preparation: &Preparation,
    dtype: ExportType,
) -> Result<(), TrainError> {
    let fault = |error: ProcessorError| TrainError::Model(error.to_string());
    if let Some(json) = config.to_hf_json() {
        let tensors = tensors(parameters)?;
        write_weights(&directory.join("model.safetensors"), tensors, dtype)?;
        write_json(&directory.join("config.json"), &json)?;
        let text = preparation.processor.to_hf_json().map_err(fault)?;
        write_atomically(&directory.join("preprocessor_config.json"), |out| out.write_all(text.as_bytes()))?;
    } else if let Some(json) = config.to_open_clip_json() {
        let tensors = tensors(&weights::to_open_clip(parameters.clone()))?;
        write_weights(&directory.join("open_clip_model.safetensors"), tensors, dtype)?;
        let preprocess = preparation.processor.to_open_clip_json().map_err(fault)?;
        let json = json!({ "model_cfg": json, "preprocess_cfg": preprocess });
        write_json(&directory.join("open_clip_config.json"), &json)?;
    } else {
        return Err(TrainError::Model("no published layout can describe this network".into()));
    }
    Ok(preparation.tokenizer.save(directory)?)
}

fn write_json(path: &Path, json: &Value) -> Result<(), TrainError> {
    Ok(write_atomically(path, |out| Ok(serde_json::to_writer_pretty(out, json)?))?)
}

fn tensors(source: &dyn TensorSource) -> Result<Vec<(String, RawTensor<'static>)>, CheckpointError> {
    let read = |name: String| Ok((name.clone(), source.read(&name)?.into_owned()));
    source.names().into_iter().map(read).collect()
}

/// Writes tensors, matrices and everything of more axes in `dtype`, vectors and scalars as they are.
pub(crate) fn write_weights<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, RawTensor<'a>)>,
    dtype: ExportType,
) -> Result<(), TrainError> {
    // Hugging Face's loaders ask for it.
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let stored = tensors.into_iter().flat_map(|(name, tensor)| store(name, tensor, dtype));
    Ok(write_safetensors(path, stored, &metadata)?)
}

fn store(name: String, tensor: RawTensor<'_>, dtype: ExportType) -> Vec<(String, RawTensor<'_>)> {
    if tensor.shape.len() < 2 || !tensor.dtype.is_float() {
        return vec![(name, tensor)];
    }
    let shape = tensor.shape.clone();
    match dtype {
        ExportType::F32 => vec![(name, tensor)],
        ExportType::F16 => {
            let values = tensor.to_f32();
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(&values);
            let data: Vec<u8> = halves.into_iter().flat_map(f16::to_le_bytes).collect();
            vec![(name, RawTensor { dtype: DType::F16, shape, data: data.into() })]
        }
        ExportType::Int8 => {
            let (values, scales) = quantize_rows_i8(&tensor.to_f32(), shape[0]);
            let data: Vec<u8> = values.into_iter().map(|value| value as u8).collect();
            let scale = (format!("{name}.scale"), RawTensor::from_f32(&shape[..1], &scales));
            vec![(name, RawTensor { dtype: DType::I8, shape, data: data.into() }), scale]
        }
    }
}

#[cfg(test)]
mod tests {
    use tuwen_tensor::checkpoint::{TensorSource, open};

    use super::*;

    #[test]
    fn every_type_reads_back_within_its_step() {
        let values: Vec<f32> = (0..12).map(|i| (i as f32 * 0.37).sin()).collect();
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("model.safetensors");
        for (dtype, step) in [(ExportType::F32, 0.0), (ExportType::F16, 5e-4), (ExportType::Int8, 4.1e-3)] {
            let tensors = [
                ("weight".to_owned(), RawTensor::from_f32(&[3, 2, 2], &values)),
                ("bias".to_owned(), RawTensor::from_f32(&[3], &values[..3])),
            ];
            write_weights(&path, tensors, dtype).expect("written");
            let checkpoint = open(&path).expect("opened");
            let read = |name: &str| checkpoint.read(name).expect("read").to_f32();
            assert_eq!(read("bias"), values[..3], "{dtype:?}");
            let close = |(got, want): (&f32, &f32)| (got - want).abs() <= step;
            assert!(read("weight").iter().zip(&values).all(close), "{dtype:?}: {:?}", read("weight"));
        }
    }
}
