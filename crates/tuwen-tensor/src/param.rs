//! Parameters: named tensors that an optimizer may change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use crate::device::Buffer;
use crate::{Precision, Tensor};

/// A named tensor of a model. Cloning shares it: tied weights are one parameter under two names.
#[derive(Clone, Debug)]
pub struct Param(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    value: RwLock<Tensor>,
    version: AtomicU64,
}

impl Param {
    /// A parameter that takes part in the tape if `trainable`.
    pub fn new(value: Tensor, trainable: bool) -> Self {
        let value = RwLock::new(if trainable { value.leaf() } else { value.detach() });
        Self(Arc::new(Slot { value, version: AtomicU64::new(0) }))
    }

    /// Its present value.
    pub fn value(&self) -> Tensor {
        self.0.value.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Changes whenever the value does, so that what was derived from it can be remembered.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// Lengths of the axes.
    pub fn shape(&self) -> Vec<usize> {
        self.value().shape().to_vec()
    }

    /// Whether it takes part in the tape.
    pub fn is_trainable(&self) -> bool {
        self.value().requires_grad()
    }

    /// Freezes or unfreezes it.
    pub fn set_trainable(&self, trainable: bool) {
        let value = self.value();
        self.set(if trainable { value.leaf() } else { value.detach() });
    }

    /// Sets what it is multiplied in where it is a weight.
    pub fn set_precision(&self, precision: Precision) {
        self.set(self.value().with_precision(precision));
    }

    /// Replaces its value; the shape stays.
    ///
    /// # Panics
    /// If the shape differs.
    pub fn assign(&self, value: &Tensor) {
        let old = self.value();
        assert_eq!(old.shape(), value.shape(), "a parameter keeps its shape");
        let value = value.with_precision(old.precision());
        self.set(if old.requires_grad() { value.leaf() } else { value.detach() });
    }

    /// Changes its values in place (packed forms and the old leaf are forgotten).
    pub fn update(&self, change: impl FnOnce(&mut Buffer)) {
        let mut slot = self.0.value.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let device = slot.device();
        let (shape, trainable, precision) = (slot.shape().to_vec(), slot.requires_grad(), slot.precision());
        let old = std::mem::replace(&mut *slot, Tensor::from_buffer(device, device.upload(&[]), &[0]));
        let mut buffer = old.into_buffer();
        change(&mut buffer);
        let value = Tensor::from_buffer(device, buffer, &shape).with_precision(precision);
        *slot = if trainable { value.leaf() } else { value };
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// Moves its values towards those of `target`, in place: `self += weight * (target - self)`.
    ///
    /// # Panics
    /// If the number of elements differs.
    pub fn lerp(&self, target: &Tensor, weight: f32) {
        self.update(|buffer| target.device().lerp(buffer, target.buffer(), weight));
    }

    /// Exchanges the values of two parameters of one shape, without a copy; each goes on to take part in the tape or not.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn swap(&self, other: &Self) {
        let (ours, theirs) = (self.value(), other.value());
        self.assign(&theirs);
        other.assign(&ours);
    }

    fn set(&self, value: Tensor) {
        *self.0.value.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = value;
        self.0.version.fetch_add(1, Ordering::Release);
    }
}
