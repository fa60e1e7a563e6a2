//! Eight-bit storage inside safetensors, for a small built-in model.
//!
//! Convention: an I8 tensor `X` of shape `[rows, ...]` beside an F32 tensor `X.scale` of shape `[rows]` stands for the
//! F32 tensor `X[r, ..] * X.scale[r]`. Reading gives the product; `X.scale` does not show.

use std::collections::BTreeMap;

use super::DType;
use super::file::{Layout, Stored};

/// Rounds each of `rows` equal rows to -127..=127 times one scale, the row's largest magnitude divided by 127.
///
/// Returns the values and one scale per row; a row of zeros has scale 0. Not a number becomes 0.
///
/// # Panics
/// If `rows` does not divide the number of values.
pub fn quantize_rows_i8(values: &[f32], rows: usize) -> (Vec<i8>, Vec<f32>) {
    if values.is_empty() {
        return (Vec::new(), vec![0.0; rows]);
    }
    assert!(rows > 0 && values.len().is_multiple_of(rows), "{} values in {rows} rows", values.len());
    let row_len = values.len() / rows;
    let scales: Vec<f32> = values
        .chunks_exact(row_len)
        .map(|row| row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs())) / 127.0)
        .collect();
    let quantized = values
        .chunks_exact(row_len)
        .zip(&scales)
        .flat_map(|(row, &scale)| {
            let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
            row.iter().map(move |value| (value * inverse).round() as i8)
        })
        .collect();
    (quantized, scales)
}

/// The F32 bytes of `scale.len()` equal rows.
pub(super) fn dequantize_to_bytes(quantized: &[u8], scale: &[f32]) -> Vec<u8> {
    let row_len = quantized.len() / scale.len().max(1);
    let mut bytes = vec![0; 4 * row_len * scale.len()];
    tuwen_kernels::parallel_chunks_mut(&mut bytes, 4 * row_len.max(1), |row, bytes| {
        let values = &quantized[row * row_len..][..row_len];
        for (bytes, &value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
            *bytes = (f32::from(value as i8) * scale[row]).to_le_bytes();
        }
    });
    bytes
}

/// Joins every I8 tensor with its scale, where there is one.
pub(super) fn join(tensors: &mut BTreeMap<String, Stored>) {
    let pairs: Vec<(String, String)> = tensors
        .iter()
        .filter(|(_, stored)| stored.info.dtype == DType::I8)
        .map(|(name, _)| (name.clone(), format!("{name}.scale")))
        .collect();
    for (name, scale_name) in pairs {
        let Some(stored) = tensors.get(&name) else { continue };
        let fits = tensors.get(&scale_name).is_some_and(|scale| {
            scale.info.dtype == DType::F32
                && scale.info.shape.len() == 1
                && scale.info.shape.first() == stored.info.shape.first()
        });
        let (true, &Layout::Contiguous(start)) = (fits, &stored.layout) else { continue };
        let scale = tensors.remove(&scale_name).map(Box::new);
        if let (Some(stored), Some(scale)) = (tensors.get_mut(&name), scale) {
            stored.info.dtype = DType::F32;
            stored.layout = Layout::Int8 { start, scale };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::temporary;
    use super::super::{RawTensor, TensorSource, open, write_safetensors};
    use super::*;

    #[test]
    fn rows_round_to_half_a_step() {
        let values: Vec<f32> =
            (0..60).map(|i| ((i * 37 % 61) as f32 - 30.0) * 0.1 * (1 + i / 20) as f32).collect();
        let (quantized, scales) = quantize_rows_i8(&values, 3);
        for (i, value) in values.iter().enumerate() {
            let error = (f32::from(quantized[i]) * scales[i / 20] - value).abs();
            assert!(error <= 0.501 * scales[i / 20], "{value}: {error}");
        }
        assert_eq!(quantize_rows_i8(&[0.0, 0.0], 1), (vec![0, 0], vec![0.0]));
        assert_eq!(quantize_rows_i8(&[], 2), (vec![], vec![0.0, 0.0]));
        assert_eq!(quantize_rows_i8(&[1.0, f32::NAN], 1).0, [127, 0]);
    }

    #[test]
    fn pairs_read_as_f32() {
        let directory = temporary();
        let path = directory.path().join("small.safetensors");
        let (quantized, scales) = quantize_rows_i8(&[1.0, -0.5, 0.25, 8.0, 4.0, -8.0], 2);
        let bytes: Vec<u8> = quantized.iter().map(|&value| value as u8).collect();
        let tensor = RawTensor { dtype: DType::I8, shape: vec![2, 3], data: bytes.into() };
        let alone = RawTensor { dtype: DType::I8, shape: vec![2], data: vec![1, 255].into() };
        let tensors = [
            ("w".to_owned(), tensor),
            ("w.scale".to_owned(), RawTensor::from_f32(&[2], &scales)),
            ("alone".to_owned(), alone),
        ];
        write_safetensors(&path, tensors, &BTreeMap::new()).expect("written");
        let checkpoint = open(&path).expect("opened");
        assert_eq!(checkpoint.names(), ["alone", "w"]);
        let read = checkpoint.read("w").expect("read");
        assert_eq!((read.dtype, &read.shape[..]), (DType::F32, &[2, 3][..]));
        assert_eq!(checkpoint.info("w"), Some(read.info()));
        let expected: Vec<f32> = (0..6).map(|i| f32::from(quantized[i]) * scales[i / 3]).collect();
        assert_eq!(read.to_f32(), expected);
        assert_eq!(checkpoint.read("alone").expect("read").to_i64(), Some(vec![1, -1]));
    }
}
