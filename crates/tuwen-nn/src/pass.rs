//! One forward pass: its mode, and the named intermediates that it is asked to keep.

use std::cell::{Cell, RefCell};

use tuwen_tensor::{AttentionMask, Dropout, Tensor, checkpoint_of, ops};

use crate::DropPath;

/// Mode and trace of a forward pass.
#[derive(Default)]
pub struct Pass {
    mode: Mode,
    checkpointing: bool,
    all_tokens: bool,
    trace: Option<RefCell<Vec<(String, Tensor)>>>,
    dropout: Option<(DropoutRates, Seeds)>,
    /// The rate of the last layer; that of the first is zero.
    drop_path: Option<(f32, Seeds)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Eval,
    Train,
    Rehearse,
}

/// How much is left out at random.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DropoutRates {
    /// Of states (`hidden_dropout_prob`).
    pub hidden: f32,
    /// Of the probabilities of attention (`attention_probs_dropout_prob`).
    pub attention: f32,
}

/// Which numbers decide what is left out.
#[derive(Clone)]
struct Seeds {
    first: u64,
    /// Draws so far.
    drawn: Cell<u64>,
}

impl Seeds {
    fn new(first: u64) -> Self {
        Self { first, drawn: Cell::new(0) }
    }

    /// The seed of the next draw.
    fn next(&self) -> u64 {
        let drawn = self.drawn.replace(self.drawn.get() + 1);
        // An odd factor keeps the seeds of one pass apart; mixing is the generator's.
        self.first ^ (drawn + 1).wrapping_mul(0xd1b5_4a32_d192_ed03)
    }
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

    /// Leaves out a part of what [`Pass::dropout`] and [`Pass::attention_mask`] are given, in training. The seed and the
    /// order of the layers decide which, so that two passes with the same seed leave out the same.
    pub fn with_dropout(self, rates: DropoutRates, seed: u64) -> Self {
        let leaves_out = self.is_training() && rates != DropoutRates::default();
        Self { dropout: leaves_out.then(|| (rates, Seeds::new(seed))), ..self }
    }

    /// Leaves out branches of image encoders for some samples, in training: with this rate in the last layer, none in the
    /// first, and as much more as a layer is higher between them. The seed decides which.
    pub fn with_drop_path(self, rate: f32, seed: u64) -> Self {
        Self { drop_path: (rate > 0.0 && self.is_training()).then(|| (rate, Seeds::new(seed))), ..self }
    }

    /// What layer `layer` of so many leaves out, if this pass does so.
    pub(crate) fn drop_path(&self, layer: usize, layers: usize) -> Option<DropPath> {
        let (most, seeds) = self.drop_path.as_ref().filter(|_| layer > 0)?;
        let rate = most * layer as f32 / (layers - 1) as f32;
        Some(DropPath { rate, seed: seeds.next() })
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
        let (dropout, drop_path) = (self.dropout.clone(), self.drop_path.clone());
        Self { all_tokens: self.all_tokens, dropout, drop_path, ..Self::rehearse() }
            .with_checkpointing(self.checkpointing)
    }

    /// x with a part left out, if this pass does so.
    pub fn dropout(&self, x: &Tensor) -> Tensor {
        match &self.dropout {
            Some((rates, seeds)) if rates.hidden > 0.0 => {
                ops::dropout(x, Dropout { rate: rates.hidden, seed: seeds.next() })
            }
            _ => x.clone(),
        }
    }

    /// What an attention sees, less what this pass leaves out of the probabilities.
    pub fn attention_mask<'a>(&self, mask: AttentionMask<'a>) -> AttentionMask<'a> {
        match &self.dropout {
            Some((rates, seeds)) if rates.attention > 0.0 => {
                AttentionMask { dropout: Dropout { rate: rates.attention, seed: seeds.next() }, ..mask }
            }
            _ => mask,
        }
    }

    /// `dropout(branch) + x`. Where nothing is left out, the branch adds x itself, which costs nothing.
    pub fn residual(&self, x: &Tensor, branch: impl FnOnce(Option<&Tensor>) -> Tensor) -> Tensor {
        match &self.dropout {
            Some((rates, _)) if rates.hidden > 0.0 => ops::add(&self.dropout(&branch(None)), x),
            _ => branch(Some(x)),
        }
    }

    /// Runs a block of a network, from one tensor to one, under gradient checkpointing if this pass has it.
    pub fn block(&self, x: &Tensor, block: impl Fn(&Tensor, &Self) -> Tensor + Send + 'static) -> Tensor {
        self.block_of(&[x], move |inputs, pass| block(&inputs[0], pass))
    }

    /// As [`Pass::block`] for a block of several tensors.
    pub fn block_of(
        &self,
        inputs: &[&Tensor],
        block: impl Fn(&[Tensor], &Self) -> Tensor + Send + 'static,
    ) -> Tensor {
        if !self.checkpointing || !self.is_training() {
            let inputs: Vec<Tensor> = inputs.iter().map(|&input| input.clone()).collect();
            return match &self.dropout {
                Some((rates, seeds)) => {
                    block(&inputs, &Self::inside(self.mode, Some((*rates, seeds.next()))))
                }
                None => block(&inputs, self),
            };
        }
        let mut mode = self.mode;
        let dropout = self.dropout.as_ref().map(|(rates, seeds)| (*rates, seeds.next()));
        checkpoint_of(inputs, move |inputs| {
            let pass = Self::inside(mode, dropout);
            mode = Mode::Rehearse;
            block(inputs, &pass)
        })
    }

    /// The pass inside a block: it leaves out the same however often the block runs.
    fn inside(mode: Mode, dropout: Option<(DropoutRates, u64)>) -> Self {
        let dropout = dropout.map(|(rates, seed)| (rates, Seeds::new(seed)));
        Self { mode, dropout, ..Self::default() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use tuwen_tensor::Precision;

    const HALF: DropoutRates = DropoutRates { hidden: 0.5, attention: 0.5 };

    #[test]
    fn a_block_leaves_out_the_same_whether_it_is_kept_or_computed_again() {
        let run = |checkpointing| {
            let x = Tensor::full(1.0, &[4, 32]).leaf();
            let pass = Pass::train().with_checkpointing(checkpointing).with_dropout(HALF, 9);
            let block = |x: &Tensor, pass: &Pass| {
                let mask = pass.attention_mask(AttentionMask::default());
                let x = pass.dropout(&pass.dropout(x)).reshape(&[1, 4, 32]);
                ops::attention(&x, &x, &x, 2, mask, Precision::F32).reshape(&[4, 32])
            };
            let y = pass.dropout(&pass.block(&pass.block(&x, block), block));
            let values = y.to_vec();
            (values, ops::sum(&y).backward().take(&x).expect("x is a leaf").to_vec())
        };
        let (kept, again) = (run(false), run(true));
        assert_eq!(kept, again);
        assert!(kept.0.contains(&0.0) && kept.0.iter().any(|&value| value > 1.0));
    }

    #[test]
    fn nothing_is_left_out_in_use() {
        let x = Tensor::full(1.0, &[8, 8]);
        let pass = Pass::eval().with_dropout(HALF, 1);
        assert_eq!(pass.dropout(&x).to_vec(), x.to_vec());
        assert!(!pass.attention_mask(AttentionMask::default()).dropout.is_on());
    }
}
