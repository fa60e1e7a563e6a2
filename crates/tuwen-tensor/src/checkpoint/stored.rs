//! A tensor of a checkpoint that is read when it is needed.

use std::sync::Arc;

use super::{CheckpointError, TensorSource};
use crate::Deferred;
use crate::pool::HostMemory;

/// A tensor that stays in its checkpoint.
pub struct StoredTensor {
    source: Arc<dyn TensorSource>,
    name: String,
}

impl StoredTensor {
    /// The tensor of this name.
    ///
    /// # Errors
    /// Those of reading it, which shall not come up when it is needed.
    pub fn new(source: Arc<dyn TensorSource>, name: &str) -> Result<Self, CheckpointError> {
        source.check(name)?;
        Ok(Self { source, name: name.to_owned() })
    }

    fn read(&self) -> super::RawTensor<'_> {
        self.source.read(&self.name).unwrap_or_else(|error| panic!("a tensor that was checked: {error}"))
    }
}

impl Deferred for StoredTensor {
    fn with_values(&self, read: &mut dyn FnMut(&[f32])) {
        let tensor = self.read();
        match tensor.as_f32() {
            Some(values) => read(values),
            None => {
                let mut values = HostMemory::take(tensor.elements());
                tensor.write_f32(values.as_mut_slice());
                read(values.as_slice());
            }
        }
        self.source.release(&self.name);
    }

    fn rows(&self, cols: usize, ids: &[u32]) -> Vec<f32> {
        self.read().rows(cols, ids).to_f32()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::testing::temporary;
    use super::super::{Cast, RawTensor, StoredType, open, write_source};
    use super::*;
    use crate::{Activation, Tensor, ops};

    #[test]
    fn every_storage_gives_its_values_and_rows() {
        let values: Vec<f32> = (0..300 * 70).map(|i| (i as f32 * 0.37).sin()).collect();
        let directory = temporary();
        let path = directory.path().join("model.safetensors");
        let source = BTreeMap::from([
            ("first".to_owned(), RawTensor::from_f32(&[3], &values[..3])),
            ("weight".to_owned(), RawTensor::from_f32(&[300, 70], &values)),
        ]);
        for to in [StoredType::F32, StoredType::F16, StoredType::BF16, StoredType::Int8] {
            write_source(&path, &Cast::new(&source, to), &BTreeMap::new(), &mut |_| {}).expect("written");
            let checkpoint: Arc<dyn TensorSource> = Arc::new(open(&path).expect("opened"));
            let expected = checkpoint.read("weight").expect("read").to_f32();
            let stored = || StoredTensor::new(checkpoint.clone(), "weight").expect("whole");
            let weight = Tensor::deferred(&[300, 70], stored());
            for _ in 0..2 {
                assert_eq!(weight.to_vec(), expected, "{to:?}");
                let rows = [&expected[299 * 70..], &expected[70..140]].concat();
                assert_eq!(ops::gather_rows(&weight, &[299, 1]).to_vec(), rows, "{to:?}");
                let x = Tensor::new(&expected[..140], &[2, 70]);
                let product = |weight: &Tensor| ops::linear(&x, weight, None, Activation::Identity, None);
                let held = Tensor::new(&expected, &[300, 70]);
                assert_eq!(product(&weight).to_vec(), product(&held).to_vec(), "{to:?}");
            }
            assert!(weight.is_deferred());
            assert!(StoredTensor::new(checkpoint.clone(), "bias").is_err());
        }
    }
}
