//! Keys and values that attention looks at, kept where they are needed more than once.

use tuwen_tensor::{Tensor, ops};

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

    /// These and those of later tokens of the same sequences.
    #[must_use]
    pub fn followed_by(&self, later: &Self) -> Self {
        Self {
            keys: ops::concat(&[&self.keys, &later.keys], 1),
            values: ops::concat(&[&self.values, &later.values], 1),
        }
    }

    /// Those of some sequences, by their numbers: in another order, several times, or not at all.
    #[must_use]
    pub fn select(&self, sequences: &[u32]) -> Self {
        let [batch, tokens, width] = self.keys.dims();
        let select = |x: &Tensor| {
            ops::gather_rows(&x.reshape(&[batch, tokens * width]), sequences).reshape(&[
                sequences.len(),
                tokens,
                width,
            ])
        };
        Self { keys: select(&self.keys), values: select(&self.values) }
    }
}
