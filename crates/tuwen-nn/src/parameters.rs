//! The list of a network's parameters and buffers, by name.

use tuwen_tensor::checkpoint::{CheckpointError, DType, RawTensor, TensorInfo, TensorSource};
use tuwen_tensor::{Param, Tensor};

use crate::lora::{FACTORS, LoraConfig, merge_lora};

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Learnt by gradients, and counted.
    Parameter,
    /// Kept by the forward pass (running statistics of a batch norm); saved, not counted.
    Buffer,
    /// A factor of a low-rank adapter; learnt and saved, not counted.
    Adapter,
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
pub struct Parameters {
    pub(crate) entries: Vec<Entry>,
    /// Paths of the linear layers, which an adapter may change.
    pub(crate) linears: Vec<String>,
    pub(crate) lora: Option<LoraConfig>,
}

impl Parameters {
    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Entries that an optimizer may change.
    pub fn trainable(&self) -> impl Iterator<Item = &Entry> {
        self.iter().filter(|entry| entry.kind != Kind::Buffer && entry.param.is_trainable())
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

    /// These with those of another network behind them, whose adapters are left out.
    pub fn and(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.entries.extend(other.iter().cloned());
        all.linears.extend_from_slice(&other.linears);
        all
    }

    /// Paths of the linear layers, in order of construction.
    pub fn linears(&self) -> &[String] {
        &self.linears
    }

    /// Settings of the adapters, if there are any.
    pub fn lora(&self) -> Option<&LoraConfig> {
        self.lora.as_ref()
    }

    /// The present value of a name, with its adapter merged into it.
    fn merged(&self, name: &str) -> Option<Tensor> {
        let value = self.get(name)?.param.value();
        let factor = |factor| {
            let path = name.strip_suffix("weight")?;
            Some(self.get(&format!("{path}{factor}"))?.param.value())
        };
        Some(match (&self.lora, factor(FACTORS[0]), factor(FACTORS[1])) {
            (Some(config), Some(a), Some(b)) => merge_lora(&value, &a, &b, config.scaling(config.r)),
            _ => value,
        })
    }
}

impl FromIterator<Entry> for Parameters {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect(), ..Self::default() }
    }
}

/// The present values as a plain network has them: adapters are merged into the weights that they change.
impl TensorSource for Parameters {
    fn names(&self) -> Vec<String> {
        let plain = self.iter().filter(|entry| entry.kind != Kind::Adapter);
        plain.map(|entry| entry.name.clone()).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        Some(TensorInfo { dtype: DType::F32, shape: self.get(name)?.param.shape() })
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
        let missing = || CheckpointError::NoSuchTensor { path: "the network".into(), name: name.to_owned() };
        let value = self.merged(name).ok_or_else(missing)?;
        Ok(RawTensor::from_f32(value.shape(), &value.to_vec()))
    }
}
