//! Writing weights for others to load.

use std::collections::BTreeMap;
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use tuwen_tensor::checkpoint::{DType, RawTensor, quantize_rows_i8, write_safetensors};

use crate::TrainError;
use crate::recipe::ExportType;

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
