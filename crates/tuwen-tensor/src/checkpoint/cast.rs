//! A checkpoint seen with other element types.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::{CheckpointError, DType, RawTensor, TensorInfo, TensorSource, quantize_rows_i8};

/// The element types in which weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoredType {
    /// Each tensor as it is.
    #[default]
    Keep,
    /// Single precision everywhere.
    F32,
    /// Half precision for matrices and what has more axes; vectors and scalars, which weigh nothing, stay exact.
    F16,
    /// The upper half of single precision, for the same tensors.
    BF16,
    /// Eight bits a value with one scale a row, for the same tensors; only tuwen reads it.
    Int8,
}

/// A source whose tensors have the element types of a [`StoredType`].
pub struct Cast<S> {
    source: S,
    to: StoredType,
}

/// What the scales of an eight-bit tensor are called beside it.
const SCALE: &str = ".scale";

impl<S: TensorSource> Cast<S> {
    /// Tensors of `source` as `to` stores them.
    pub fn new(source: S, to: StoredType) -> Self {
        Self { source, to }
    }

    /// The type in which a tensor of this type and shape is stored.
    fn stored(&self, info: &TensorInfo) -> DType {
        let (dtype, matrix) = (info.dtype, info.shape.len() >= 2);
        match self.to {
            StoredType::Keep => dtype,
            _ if !dtype.is_float() => dtype,
            StoredType::F16 if matrix => DType::F16,
            StoredType::BF16 if matrix => DType::BF16,
            StoredType::Int8 if matrix => DType::I8,
            StoredType::F16 | StoredType::BF16 | StoredType::Int8 | StoredType::F32 => DType::F32,
        }
    }

    /// The tensor whose scales go by this name.
    fn scaled(&self, name: &str) -> Option<(String, TensorInfo)> {
        let name = name.strip_suffix(SCALE)?;
        let info = self.source.info(name)?;
        (self.to == StoredType::Int8 && self.stored(&info) == DType::I8).then(|| (name.to_owned(), info))
    }
}

impl<S: TensorSource> TensorSource for Cast<S> {
    fn names(&self) -> Vec<String> {
        let mut names = self.source.names();
        let scales = names.iter().map(|name| format!("{name}{SCALE}"));
        let scales: Vec<_> = scales.filter(|name| self.scaled(name).is_some()).collect();
        names.extend(scales);
        names.sort();
        names
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        if let Some((_, TensorInfo { shape, .. })) = self.scaled(name) {
            return Some(TensorInfo { dtype: DType::F32, shape: shape[..1].to_vec() });
        }
        let info = self.source.info(name)?;
        Some(TensorInfo { dtype: self.stored(&info), shape: info.shape })
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
        if let Some((name, TensorInfo { shape, .. })) = self.scaled(name) {
            let (_, scales) = quantize_rows_i8(&self.source.read(&name)?.to_f32(), shape[0]);
            return Ok(RawTensor::from_f32(&shape[..1], &scales));
        }
        let tensor = self.source.read(name)?;
        let dtype = self.stored(&tensor.info());
        Ok(if dtype == tensor.dtype { tensor } else { cast(&tensor, dtype) })
    }
}

/// The values rounded to another type; to nearest, ties to even.
fn cast(tensor: &RawTensor<'_>, dtype: DType) -> RawTensor<'static> {
    let (values, shape) = (tensor.to_f32(), tensor.shape.clone());
    let data: Vec<u8> = match dtype {
        DType::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(&values);
            halves.into_iter().flat_map(f16::to_le_bytes).collect()
        }
        DType::BF16 => {
            let mut halves = vec![bf16::ZERO; values.len()];
            halves.convert_from_f32_slice(&values);
            halves.into_iter().flat_map(bf16::to_le_bytes).collect()
        }
        DType::I8 => quantize_rows_i8(&values, shape[0]).0.into_iter().map(|value| value as u8).collect(),
        _ => return RawTensor::from_f32(&shape, &values),
    };
    RawTensor { dtype, shape, data: data.into() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::testing::temporary;
    use super::super::{open, write_source};
    use super::*;

    #[test]
    fn every_type_reads_back_within_its_step() {
        let values: Vec<f32> = (0..12).map(|i| (i as f32 * 0.37).sin()).collect();
        let directory = temporary();
        let path = directory.path().join("model.safetensors");
        let count =
            RawTensor { dtype: DType::I64, shape: vec![1], data: vec![7, 0, 0, 0, 0, 0, 0, 0].into() };
        let source = BTreeMap::from([
            ("weight".to_owned(), RawTensor::from_f32(&[3, 2, 2], &values)),
            ("bias".to_owned(), RawTensor::from_f32(&[3], &values[..3])),
            ("count".to_owned(), count),
        ]);
        for (to, step) in [
            (StoredType::Keep, 0.0),
            (StoredType::F32, 0.0),
            (StoredType::F16, 5e-4),
            (StoredType::BF16, 4e-3),
            (StoredType::Int8, 4.1e-3),
        ] {
            let cast = Cast::new(&source, to);
            write_source(&path, &cast, &BTreeMap::new(), &mut |_| {}).expect("written");
            let checkpoint = open(&path).expect("opened");
            let read = |name: &str| checkpoint.read(name).expect("read");
            assert_eq!(read("bias").to_f32(), values[..3], "{to:?}");
            assert_eq!(read("count").to_i64(), Some(vec![7]), "{to:?}");
            let got = read("weight").to_f32();
            assert!(got.iter().zip(&values).all(|(got, want)| (got - want).abs() <= step), "{to:?}: {got:?}");
            assert_eq!(got == values, step == 0.0, "{to:?}");
            assert_eq!(checkpoint.names(), ["bias", "count", "weight"]);
        }
    }

    #[test]
    fn vectors_of_another_half_become_single() {
        let half = |shape: &[usize]| cast(&RawTensor::from_f32(shape, &[1.5; 4]), DType::BF16);
        let source =
            BTreeMap::from([("matrix".to_owned(), half(&[2, 2])), ("vector".to_owned(), half(&[4]))]);
        let dtypes = |to| {
            let cast = Cast::new(&source, to);
            ["matrix", "vector"].map(|name| cast.read(name).expect("read").dtype)
        };
        assert_eq!(dtypes(StoredType::F16), [DType::F16, DType::F32]);
        assert_eq!(dtypes(StoredType::Keep), [DType::BF16, DType::BF16]);
        assert_eq!(dtypes(StoredType::F32), [DType::F32, DType::F32]);
    }
}
