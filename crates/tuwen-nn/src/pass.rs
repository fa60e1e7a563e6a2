//! One forward pass: its mode, and the named intermediates that it is asked to keep.

use std::cell::RefCell;

use tuwen_tensor::Tensor;

/// Mode and trace of a forward pass.
#[derive(Default)]
pub struct Pass {
    training: bool,
    trace: Option<RefCell<Vec<(String, Tensor)>>>,
}

impl Pass {
    /// Inference: running statistics, nothing kept.
    pub fn eval() -> Self {
        Self::default()
    }

    /// Training: batch statistics, which move the running ones.
    pub fn train() -> Self {
        Self { training: true, trace: None }
    }

    /// Inference that keeps named intermediates, in order of computation.
    pub fn traced() -> Self {
        Self { training: false, trace: Some(RefCell::default()) }
    }

    /// Whether this is a training pass.
    pub fn is_training(&self) -> bool {
        self.training
    }

    /// Keeps an intermediate if this pass is traced; otherwise neither closure runs.
    pub fn record(&self, name: impl FnOnce() -> String, value: impl FnOnce() -> Tensor) {
        if let Some(trace) = &self.trace {
            let entry = (name(), value().detach());
            trace.borrow_mut().push(entry);
        }
    }

    /// The kept intermediates.
    pub fn into_trace(self) -> Vec<(String, Tensor)> {
        self.trace.map(RefCell::into_inner).unwrap_or_default()
    }
}
