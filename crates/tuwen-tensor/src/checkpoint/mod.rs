//! Checkpoint files: safetensors, PyTorch archives (zip, TorchScript, the old stream), whole or in shards.
//!
//! A file is recognised by its content, never by its extension, mapped into memory, and treated as hostile: every
//! length, offset, shape and stride is checked before use, and a pickle is read for its tensors while nothing in it
//! is ever called. [`Mapped`] translates foreign parameter names while reading and back again on export.

use std::collections::BTreeMap;
use std::sync::Arc;

mod cast;
mod directory;
mod error;
mod file;
mod globals;
mod int8;
mod overlay;
mod pickle;
mod raw;
mod replace;
mod rules;
mod safetensors;
mod sharded;
mod stored;
#[cfg(test)]
mod testing;
mod torch;
mod write;
mod write_torch;

pub use cast::{Cast, StoredType};
pub use directory::{open_weights_in, weight_files_in};
pub use error::{CheckpointError, Problem};
pub use file::{Checkpoint, Format, open, open_static};
pub use int8::quantize_rows_i8;
pub use overlay::Overlay;
pub use raw::{DType, RawTensor, TensorInfo};
pub use replace::replace_directory;
pub use rules::{Mapped, Rule, fits};
pub use stored::StoredTensor;
pub use write::{write_atomically, write_safetensors, write_source};
pub use write_torch::{TorchArchive, write_torch};

/// Anything that yields tensors by name: an open checkpoint, or one seen through naming rules.
pub trait TensorSource: Send + Sync {
    /// All names, sorted.
    fn names(&self) -> Vec<String>;

    /// Type and shape of one tensor, without touching its data; `None` for an unknown name.
    fn info(&self, name: &str) -> Option<TensorInfo>;

    /// One tensor; borrowed from the mapped file where it lies there contiguously.
    ///
    /// # Errors
    /// An unknown name, or data that the checkpoint holds in an unreadable form.
    fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError>;

    /// Whether [`TensorSource::read`] will give the tensor whenever it is asked for; without reading where the
    /// description is enough to know.
    ///
    /// # Errors
    /// Those of reading.
    fn check(&self, name: &str) -> Result<(), CheckpointError> {
        self.read(name).map(drop)
    }

    /// Says that the data of a tensor were used and will not be for long, so that a mapped file need not keep them in
    /// memory.
    fn release(&self, _name: &str) {}
}

/// Tensors in memory.
impl TensorSource for BTreeMap<String, RawTensor<'static>> {
    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.get(name).map(RawTensor::info)
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
        let missing = || CheckpointError::NoSuchTensor { path: "memory".into(), name: name.to_owned() };
        self.get(name).map(RawTensor::borrowed).ok_or_else(missing)
    }
}

/// A source behind a pointer is a source.
macro_rules! through_pointer {
    ($($pointer:ty),*) => {$(
        impl<S: TensorSource + ?Sized> TensorSource for $pointer {
            fn names(&self) -> Vec<String> {
                (**self).names()
            }

            fn info(&self, name: &str) -> Option<TensorInfo> {
                (**self).info(name)
            }

            fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
                (**self).read(name)
            }

            fn check(&self, name: &str) -> Result<(), CheckpointError> {
                (**self).check(name)
            }

            fn release(&self, name: &str) {
                (**self).release(name);
            }
        }
    )*};
}

through_pointer!(&S, Box<S>, Arc<S>);
