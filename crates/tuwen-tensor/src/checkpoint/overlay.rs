//! A checkpoint with some tensors added or replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{CheckpointError, RawTensor, TensorInfo, TensorSource};

/// Tensors of a base, of which some are others or more than it has.
pub struct Overlay {
    base: Arc<dyn TensorSource>,
    tensors: BTreeMap<String, RawTensor<'static>>,
}

impl Overlay {
    /// Puts `tensors` over `base`.
    pub fn new(base: Arc<dyn TensorSource>, tensors: BTreeMap<String, RawTensor<'static>>) -> Self {
        Self { base, tensors }
    }
}

impl TensorSource for Overlay {
    fn names(&self) -> Vec<String> {
        let mut names = self.base.names();
        names.extend(self.tensors.keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.info(name).or_else(|| self.base.info(name))
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
        if self.tensors.contains_key(name) { self.tensors.read(name) } else { self.base.read(name) }
    }

    fn check(&self, name: &str) -> Result<(), CheckpointError> {
        if self.tensors.contains_key(name) { Ok(()) } else { self.base.check(name) }
    }

    fn release(&self, name: &str) {
        self.base.release(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_above_is_seen() {
        let tensors = |names: &[(&str, f32)]| -> BTreeMap<_, _> {
            names.iter().map(|&(name, value)| (name.to_owned(), RawTensor::from_f32(&[], &[value]))).collect()
        };
        let overlay =
            Overlay::new(Arc::new(tensors(&[("a", 1.0), ("b", 2.0)])), tensors(&[("b", 3.0), ("c", 4.0)]));
        assert_eq!(overlay.names(), ["a", "b", "c"]);
        let read = |name: &str| overlay.read(name).map(|tensor| tensor.to_f32()).ok();
        assert_eq!(["a", "b", "c", "d"].map(read), [Some(vec![1.0]), Some(vec![3.0]), Some(vec![4.0]), None]);
        assert!(overlay.info("c").is_some() && overlay.info("d").is_none());
    }
}
