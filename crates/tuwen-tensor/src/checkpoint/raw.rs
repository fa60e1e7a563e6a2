//! Element types and tensors as they lie in a file: little-endian bytes with a type and a shape.

use std::borrow::Cow;
use std::fmt;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl DType {
    const NAMES: [(Self, &'static str); 10] = [
        (Self::F64, "F64"),
        (Self::F32, "F32"),
        (Self::F16, "F16"),
        (Self::BF16, "BF16"),
        (Self::I64, "I64"),
        (Self::I32, "I32"),
        (Self::I16, "I16"),
        (Self::I8, "I8"),
        (Self::U8, "U8"),
        (Self::Bool, "BOOL"),
    ];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether the type has a fractional part.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// The spelling of the safetensors format.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(dtype, _)| *dtype == self).map_or("?", |(_, name)| name)
    }

    /// Reads the spelling of the safetensors format.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(dtype, _)| *dtype)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Type and shape of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: DType,
    /// Row-major shape; empty for a scalar.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Number of elements, or `None` where the shape is too large for memory.
    pub fn len(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |product, &axis| product.checked_mul(axis))
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Number of bytes, or `None` where the shape is too large for memory.
    pub fn byte_len(&self) -> Option<usize> {
        self.len()?.checked_mul(self.dtype.size()).filter(|&bytes| isize::try_from(bytes).is_ok())
    }
}

/// A tensor as stored: contiguous, row-major, little-endian.
#[derive(Clone, Debug, PartialEq)]
pub struct RawTensor<'a> {
    /// Element type.
    pub dtype: DType,
    /// Row-major shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Exactly the product of `shape` times `dtype.size()` bytes.
    pub data: Cow<'a, [u8]>,
}

impl<'a> RawTensor<'a> {
    /// A stored F32 tensor from values; `values` has the product of `shape` elements.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> RawTensor<'static> {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        RawTensor { dtype: DType::F32, shape: shape.to_vec(), data: Cow::Owned(data) }
    }

    /// Type and shape.
    pub fn info(&self) -> TensorInfo {
        TensorInfo { dtype: self.dtype, shape: self.shape.clone() }
    }

    /// The same tensor over this one's data.
    pub fn borrowed(&self) -> RawTensor<'_> {
        RawTensor { dtype: self.dtype, shape: self.shape.clone(), data: Cow::Borrowed(&self.data) }
    }

    /// The same tensor with data of its own.
    pub fn into_owned(self) -> RawTensor<'static> {
        RawTensor { dtype: self.dtype, shape: self.shape, data: Cow::Owned(self.data.into_owned()) }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// The values where they lie, if they are f32 as this machine has them.
    pub fn as_f32(&self) -> Option<&[f32]> {
        if self.dtype == DType::F32 { tuwen_kernels::as_floats(&self.data) } else { None }
    }

    /// Rows `ids` of a table of `cols` columns, as a tensor.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn rows(&self, cols: usize, ids: &[u32]) -> RawTensor<'static> {
        let row = cols * self.dtype.size();
        let data: Vec<u8> =
            ids.iter().flat_map(|&id| &self.data[id as usize * row..][..row]).copied().collect();
        RawTensor { dtype: self.dtype, shape: vec![ids.len(), cols], data: data.into() }
    }

    /// The values as f32; exact for F32, F16, BF16 and small integers, rounded for F64 and large integers.
    pub fn to_f32(&self) -> Vec<f32> {
        if let Some(values) = self.as_f32() {
            return values.to_vec();
        }
        let mut values = vec![0.0; self.elements()];
        self.write_f32(&mut values);
        values
    }

    /// Writes the values as [`RawTensor::to_f32`] gives them, on all threads.
    ///
    /// # Panics
    /// If `values` are not as many.
    pub fn write_f32(&self, values: &mut [f32]) {
        /// Elements that are converted in one go.
        const BLOCK: usize = 1 << 14;
        assert_eq!(values.len(), self.elements(), "one f32 for each element");
        tuwen_kernels::parallel_chunks_mut(values, BLOCK, |i, values| {
            let size = self.dtype.size();
            self.dtype.widen(&self.data[i * BLOCK * size..][..values.len() * size], values);
        });
    }

    /// The values of an integer or boolean tensor; `None` for a float type.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        let bytes = &self.data[..];
        Some(match self.dtype {
            DType::I64 => elements(bytes).map(i64::from_le_bytes).collect(),
            DType::I32 => elements(bytes).map(|b| i64::from(i32::from_le_bytes(b))).collect(),
            DType::I16 => elements(bytes).map(|b| i64::from(i16::from_le_bytes(b))).collect(),
            DType::I8 => elements(bytes).map(|b| i64::from(i8::from_le_bytes(b))).collect(),
            DType::U8 => bytes.iter().map(|&b| i64::from(b)).collect(),
            DType::Bool => bytes.iter().map(|&b| i64::from(b != 0)).collect(),
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 => return None,
        })
    }
}

impl DType {
    /// Writes little-endian elements of this type as f32.
    fn widen(self, bytes: &[u8], values: &mut [f32]) {
        match self {
            Self::F64 => convert(bytes, values, |b| f64::from_le_bytes(b) as f32),
            Self::F32 => convert(bytes, values, f32::from_le_bytes),
            Self::F16 => widen(bytes, values, f16::from_le_bytes, |from, to| from.convert_to_f32_slice(to)),
            Self::BF16 => widen(bytes, values, bf16::from_le_bytes, |from, to| from.convert_to_f32_slice(to)),
            Self::I64 => convert(bytes, values, |b| i64::from_le_bytes(b) as f32),
            Self::I32 => convert(bytes, values, |b| i32::from_le_bytes(b) as f32),
            Self::I16 => convert(bytes, values, |b| f32::from(i16::from_le_bytes(b))),
            Self::I8 => convert(bytes, values, |b| f32::from(i8::from_le_bytes(b))),
            Self::U8 => convert(bytes, values, |[b]| f32::from(b)),
            Self::Bool => convert(bytes, values, |[b]| f32::from(u8::from(b != 0))),
        }
    }
}

fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

fn convert<const N: usize>(bytes: &[u8], values: &mut [f32], parse: impl Fn([u8; N]) -> f32) {
    values.iter_mut().zip(elements(bytes)).for_each(|(value, element)| *value = parse(element));
}

/// Widens half floats block by block: one dispatch to the processor's conversion per block, not per value.
fn widen<H: Copy + Default>(
    bytes: &[u8],
    values: &mut [f32],
    parse: fn([u8; 2]) -> H,
    convert: impl Fn(&[H], &mut [f32]),
) {
    const BLOCK: usize = 1024;
    let mut block = [H::default(); BLOCK];
    for (from, to) in bytes.chunks(2 * BLOCK).zip(values.chunks_mut(BLOCK)) {
        let halves = &mut block[..to.len()];
        halves.iter_mut().zip(elements(from)).for_each(|(half, bytes)| *half = parse(bytes));
        convert(halves, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw<const N: usize>(dtype: DType, values: impl IntoIterator<Item = [u8; N]>) -> RawTensor<'static> {
        let data: Vec<u8> = values.into_iter().flatten().collect();
        RawTensor { dtype, shape: vec![data.len() / dtype.size()], data: Cow::Owned(data) }
    }

    #[test]
    fn every_type_becomes_f32() {
        let expected = vec![0.0, 1.0, 100.0];
        let cases = [
            raw(DType::F64, [0.0_f64, 1.0, 100.0].map(f64::to_le_bytes)),
            raw(DType::F32, [0.0_f32, 1.0, 100.0].map(f32::to_le_bytes)),
            raw(DType::F16, [0.0, 1.0, 100.0].map(|v| f16::from_f32(v).to_le_bytes())),
            raw(DType::BF16, [0.0, 1.0, 100.0].map(|v| bf16::from_f32(v).to_le_bytes())),
            raw(DType::I64, [0_i64, 1, 100].map(i64::to_le_bytes)),
            raw(DType::I32, [0_i32, 1, 100].map(i32::to_le_bytes)),
            raw(DType::I16, [0_i16, 1, 100].map(i16::to_le_bytes)),
            raw(DType::I8, [0_i8, 1, 100].map(i8::to_le_bytes)),
            raw(DType::U8, [[0], [1], [100]]),
        ];
        for tensor in cases {
            assert_eq!(tensor.to_f32(), expected, "{}", tensor.dtype);
            assert_eq!(
                tensor.to_i64(),
                (!tensor.dtype.is_float()).then(|| vec![0, 1, 100]),
                "{}",
                tensor.dtype
            );
            assert_eq!(DType::from_name(tensor.dtype.name()), Some(tensor.dtype));
        }
        assert_eq!(raw(DType::Bool, [[0], [1], [7]]).to_f32(), [0.0, 1.0, 1.0]);
        assert_eq!(raw(DType::I64, [[0xff; 8]]).to_i64(), Some(vec![-1]));
    }

    #[test]
    fn halves_widen_across_block_borders() {
        let values: Vec<f32> = (0..9001).map(|i| f16::from_f32(i as f32 * 0.37 - 900.0).to_f32()).collect();
        let stored = raw(DType::F16, values.iter().map(|&v| f16::from_f32(v).to_le_bytes()));
        assert_eq!(stored.to_f32(), values);
    }

    #[test]
    fn huge_shapes_have_no_length() {
        let info = |shape: &[usize]| TensorInfo { dtype: DType::F32, shape: shape.to_vec() };
        assert_eq!(info(&[1 << 40, 1 << 40]).len(), None);
        assert_eq!(info(&[1 << 61]).byte_len(), None);
        assert_eq!(info(&[]).byte_len(), Some(4));
    }
}
