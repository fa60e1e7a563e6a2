//! One forward pass: its mode, and the named intermediates that it is asked to keep.

use std::cell::RefCell;

use tuwen_tensor::{Tensor, checkpoint};

/// Mode and trace of a forward pass.
#[derive(Default)]
pub struct Pass {
    mode: Mode,
    checkpointing: bool,
    all_tokens: bool,
    trace: Option<RefCell<Vec<(String, Tensor)>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Eval,
    Train,
    Rehearse,
}

impl Pass {
    /// Inference: running statistics, nothing kept.
    pub fn eval() -> Self {
        Self::default()
    }

    /// Training: batch statistics, which move the running ones.
    pub fn train() -> Self {
        Self { mode: Mode::Train, ..Self::default() }
    }

    /// Training that leaves no trace: batch statistics, and the running ones stay. For what is computed once more.
    pub fn rehearse() -> Self {
        Self { mode: Mode::Rehearse, ..Self::default() }
    }

    /// Inference that keeps named intermediates, in order of computation.
    pub fn traced() -> Self {
        Self { trace: Some(RefCell::default()), all_tokens: true, ..Self::default() }
    }

    /// Computes the states of all tokens in the last layer too, where only one of them is pooled: what published counts
    /// of operations assume, and what a trace shows.
    pub fn of_all_tokens(self) -> Self {
        Self { all_tokens: true, ..self }
    }

    /// Whether [`Pass::block`] computes its block again in the backward pass, instead of keeping what that needs.
    pub fn with_checkpointing(self, checkpointing: bool) -> Self {
        Self { checkpointing, ..self }
    }

    /// Whether the states of all tokens are computed, though only one is pooled.
    pub fn is_of_all_tokens(&self) -> bool {
        self.all_tokens
    }

    /// Whether this is a training pass.
    pub fn is_training(&self) -> bool {
        self.mode != Mode::Eval
    }

    /// Whether batch statistics move the running ones.
    pub fn moves_statistics(&self) -> bool {
        self.mode == Mode::Train
    }

    /// A training pass as this one that leaves no trace.
    pub fn rehearsal(&self) -> Self {
        Self { all_tokens: self.all_tokens, ..Self::rehearse() }.with_checkpointing(self.checkpointing)
    }

    /// Runs a block of a network, from one tensor to one, under gradient checkpointing if this pass has it.
    pub fn block(&self, x: &Tensor, block: impl Fn(&Tensor, &Self) -> Tensor + Send + 'static) -> Tensor {
        if !self.checkpointing || !self.is_training() {
            return block(x, self);
        }
        let mut mode = self.mode;
        checkpoint(x, move |x| {
            let pass = Self { mode, ..Self::default() };
            mode = Mode::Rehearse;
            block(x, &pass)
        })
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
