//! Stochastic depth: branches that are left out for whole samples (arXiv 1603.09382; timm's `DropPath`).

use tuwen_tensor::{Dropout, Tensor, ops};

/// For which samples branches are left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropPath {
    pub(crate) rate: f32,
    pub(crate) seed: u64,
}

impl DropPath {
    /// A branch `[batch, ...]` that is zero for some samples, and for the others as much larger as keeps the mean. `number`
    /// tells branches of a layer apart.
    pub(crate) fn apply(self, branch: &Tensor, number: u64) -> Tensor {
        let samples = Tensor::full(1.0, &[branch.shape()[0]]);
        let dropout = Dropout { rate: self.rate, seed: self.seed.wrapping_add(number) };
        let factors = ops::dropout(&samples, dropout).to_vec();
        let backward = factors.clone();
        ops::custom(branch, |x| scaled(x, &factors), move |dy| scaled(&dy, &backward))
    }
}

/// Each sample multiplied by a factor.
fn scaled(x: &Tensor, factors: &[f32]) -> Tensor {
    let sample = |(row, &factor): (usize, &f32)| ops::scale(&ops::narrow(x, 0, row, 1), factor);
    let samples: Vec<Tensor> = factors.iter().enumerate().map(sample).collect();
    ops::concat(&samples.iter().collect::<Vec<_>>(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_samples_are_left_out_and_so_are_their_gradients() {
        let x = Tensor::full(1.0, &[400, 2, 3]).leaf();
        let y = DropPath { rate: 0.25, seed: 3 }.apply(&x, 0);
        let values = y.to_vec();
        let mut left_out = 0;
        for sample in values.chunks_exact(6) {
            assert!(sample.iter().all(|&value| value == sample[0]), "{sample:?}");
            assert!(sample[0] == 0.0 || (sample[0] - 4.0 / 3.0).abs() < 1e-6, "{sample:?}");
            left_out += usize::from(sample[0] == 0.0);
        }
        assert!((70..130).contains(&left_out), "{left_out}");
        assert_ne!(values, DropPath { rate: 0.25, seed: 3 }.apply(&x, 1).to_vec());
        let gradient = ops::sum(&y).backward().take(&x).expect("x is a leaf");
        assert_eq!(gradient.to_vec(), values);
    }
}
