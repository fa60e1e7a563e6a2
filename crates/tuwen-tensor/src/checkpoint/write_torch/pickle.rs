//! The opcodes of Python's pickle protocol 2 that a file of tensors needs.

use super::super::{DType, Problem, TensorInfo};

/// Row-major strides, counted in elements.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1_usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1));
    }
    strides
}

/// A pickle of protocol 2 on its way.
pub(super) struct Pickle(Vec<u8>);

impl Pickle {
    pub fn new() -> Self {
        Self(b"\x80\x02".to_vec())
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.op(b".");
        self.0
    }

    /// Opcodes without arguments.
    pub fn op(&mut self, opcodes: &[u8]) {
        self.0.extend_from_slice(opcodes);
    }

    /// A tensor with its whole storage, which goes by a number.
    pub fn tensor(&mut self, key: usize, name: &str, info: &TensorInfo) -> Result<(), Problem> {
        let too_large = || Problem::tensor(name, format!("{:?} is beyond any file", info.shape));
        let len = info.byte_len().and(info.len()).ok_or_else(too_large)?;
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.op(b"(");
        self.storage(info.dtype, key, len);
        self.int(0); // its first element
        self.ints(&info.shape);
        self.ints(&strides(&info.shape));
        self.op(b"\x89"); // requires no gradient
        self.global("collections", "OrderedDict");
        self.op(b")RtR"); // no hooks; the end of the arguments; the call
        Ok(())
    }

    pub fn global(&mut self, module: &str, name: &str) {
        self.0.extend_from_slice(format!("c{module}\n{name}\n").as_bytes());
    }

    pub fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn int(&mut self, value: usize) {
        match i32::try_from(value) {
            Ok(value) => {
                self.0.push(b'J');
                self.0.extend_from_slice(&value.to_le_bytes());
            }
            // No length reaches the bit of the sign.
            Err(_) => {
                self.0.extend_from_slice(b"\x8a\x08");
                self.0.extend_from_slice(&(value as u64).to_le_bytes());
            }
        }
    }

    fn ints(&mut self, values: &[usize]) {
        self.0.push(b'(');
        values.iter().for_each(|&value| self.int(value));
        self.0.push(b't');
    }

    /// The persistent id by which PyTorch finds a storage.
    fn storage(&mut self, dtype: DType, key: usize, len: usize) {
        self.0.push(b'(');
        self.text("storage");
        self.global("torch", storage_class(dtype));
        self.text(&key.to_string());
        self.text("cpu");
        self.int(len);
        self.0.extend_from_slice(b"tQ");
    }
}

fn storage_class(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "DoubleStorage",
        DType::F32 => "FloatStorage",
        DType::F16 => "HalfStorage",
        DType::BF16 => "BFloat16Storage",
        DType::I64 => "LongStorage",
        DType::I32 => "IntStorage",
        DType::I16 => "ShortStorage",
        DType::I8 => "CharStorage",
        DType::U8 => "ByteStorage",
        DType::Bool => "BoolStorage",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_not_negative() {
        let mut pickle = Pickle(Vec::new());
        pickle.ints(&[3, 1 << 31]);
        assert_eq!(pickle.0, b"(J\x03\0\0\0\x8a\x08\0\0\0\x80\0\0\0\0t");
        assert_eq!(strides(&[2, 3, 4]), [12, 4, 1]);
        assert!(strides(&[]).is_empty());
    }
}
