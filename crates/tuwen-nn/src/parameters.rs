//! The list of a network's parameters and buffers, by name.

use tuwen_tensor::Param;
use tuwen_tensor::checkpoint::{CheckpointError, DType, RawTensor, TensorInfo, TensorSource};

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Learnt by gradients, and counted.
    Parameter,
    /// Kept by the forward pass (running statistics of a batch norm); saved, not counted.
    Buffer,
}

/// A named parameter or buffer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Path, Hugging Face's spelling.
    pub name: String,
    /// The tensor.
    pub param: Param,
    /// What it is for.
    pub kind: Kind,
}

/// All parameters and buffers of a network, in order of construction.
#[derive(Clone, Debug, Default)]
pub struct Parameters(pub(crate) Vec<Entry>);

impl Parameters {
    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// Entries that an optimizer may change.
    pub fn trainable(&self) -> impl Iterator<Item = &Entry> {
        self.iter().filter(|entry| entry.kind == Kind::Parameter && entry.param.is_trainable())
    }

    /// The entry of a name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.iter().find(|entry| entry.name == name)
    }

    /// Number of learnable values, as published totals count them.
    pub fn total(&self) -> usize {
        let parameters = self.iter().filter(|entry| entry.kind == Kind::Parameter);
        parameters.map(|entry| entry.param.value().elements()).sum()
    }
}

/// Entries of several networks as those of one.
impl FromIterator<Entry> for Parameters {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

/// The present values.
impl TensorSource for Parameters {
    fn names(&self) -> Vec<String> {
        self.iter().map(|entry| entry.name.clone()).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        Some(TensorInfo { dtype: DType::F32, shape: self.get(name)?.param.shape() })
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
        let missing = || CheckpointError::NoSuchTensor { path: "the network".into(), name: name.to_owned() };
        let value = self.get(name).ok_or_else(missing)?.param.value();
        Ok(RawTensor::from_f32(value.shape(), &value.to_vec()))
    }
}
