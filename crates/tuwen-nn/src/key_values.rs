//! Keys and values that attention looks at, kept where they are needed more than once.

use tuwen_tensor::{Precision, StepStates, Tensor, ops};

/// Keys and values `[batch, tokens, width]` of sequences, heads side by side in the width.
#[derive(Clone, Debug)]
pub struct KeyValues {
    /// What queries are compared with.
    pub keys: Tensor,
    /// What they get.
    pub values: Tensor,
}

impl KeyValues {
    /// Number of sequences.
    pub fn batch(&self) -> usize {
        self.keys.shape()[0]
    }

    /// Tokens of a sequence.
    pub fn tokens(&self) -> usize {
        self.keys.shape()[1]
    }

    /// Numbers of both together.
    pub fn elements(&self) -> usize {
        self.keys.elements() + self.values.elements()
    }

    /// The same as attention in this precision sees them: where it would round them each time to bf16, they are kept so, in half
    /// of the memory. Not where gradients are asked for.
    #[must_use]
    pub fn rounded_for(self, precision: Precision) -> Self {
        match precision.of_activations() {
            Precision::Bf16 => {
                Self { keys: ops::to_halves(&self.keys), values: ops::to_halves(&self.values) }
            }
            _ => self,
        }
    }

    /// These as attention takes those of a step of tokens; `rows` says which of the sequences belongs to each that asks.
    pub fn of_rows<'a>(&'a self, rows: &'a [u32]) -> StepStates<'a> {
        StepStates { keys_values: [&self.keys, &self.values], rows }
    }

    /// Those of some sequences, by their numbers: in another order, several times, or not at all.
    #[must_use]
    pub fn select(&self, sequences: &[u32]) -> Self {
        let [batch, tokens, width] = self.keys.dims();
        let select =
            |x: &Tensor| {
                ops::gather_rows(&ops::from_halves(x).reshape(&[batch, tokens * width]), sequences)
                    .reshape(&[sequences.len(), tokens, width])
            };
        Self { keys: select(&self.keys), values: select(&self.values) }
    }
}
