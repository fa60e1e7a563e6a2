//! The contrast between images and texts (ITC), whose targets may be soft.

use super::joined;
use tuwen_nn::{ContrastiveLoss, Meanings, PairLoss, Temperature};
use tuwen_tensor::{Targets, Tensor, no_grad, ops};

/// What images and texts are compared with: unit vectors `[keys, dim]`, off the tape.
pub struct Keys {
    /// Of images.
    pub images: Tensor,
    /// Of texts.
    pub texts: Tensor,
}

impl Keys {
    /// Those of all parts, if there are any and all have some.
    pub(crate) fn of_all<'k>(parts: impl Iterator<Item = Option<&'k Self>>) -> Option<Self> {
        let parts: Vec<&Self> = parts.collect::<Option<_>>()?;
        (!parts.is_empty()).then(|| Self::joined(&parts))
    }

    /// Those of all parts, of which there has to be one.
    pub(super) fn joined(parts: &[&Self]) -> Self {
        let all = |of: fn(&Self) -> &Tensor| joined(parts.iter().map(|keys| of(keys).clone()).collect());
        Self { images: all(|keys| &keys.images), texts: all(|keys| &keys.texts) }
    }

    /// Some rows that stand together.
    pub(super) fn part(&self, first: usize, count: usize) -> Self {
        Self {
            images: ops::narrow(&self.images, 0, first, count),
            texts: ops::narrow(&self.texts, 0, first, count),
        }
    }
}

/// Of the pairs of a batch with each other, as CLIP does it; pairs of equal meanings are right for each other.
pub(super) fn of_batch([image, text]: &[Tensor; 2], temp: &Tensor, meanings: Option<&[String]>) -> Tensor {
    let temperature = Temperature { scale: reciprocal(temp), bias: None };
    let meanings = meanings.map(Meanings::new);
    ContrastiveLoss::new(PairLoss::Softmax).forward(image, text, &temperature, meanings.as_ref())
}

/// Cosines divided by the temperature: `[rows, dim]` and `[keys, dim]` to `[rows, keys]`.
pub(super) fn similarities(rows: &Tensor, keys: &Tensor, temp: &Tensor) -> Tensor {
    ops::mul(&ops::matmul_nt(rows, keys), &reciprocal(temp))
}

/// The mean of both directions of the cross entropy of pairs with keys, from images and from texts, where each row's
/// target is a distribution over the keys.
pub(super) fn with_targets(
    [image, text]: &[Tensor; 2],
    keys: &Keys,
    temp: &Tensor,
    [from_images, from_texts]: &[Vec<f32>; 2],
) -> Tensor {
    let image = ops::cross_entropy(&similarities(image, &keys.texts, temp), Targets::Soft(from_images));
    let text = ops::cross_entropy(&similarities(text, &keys.images, temp), Targets::Soft(from_texts));
    ops::scale(&ops::add(&image, &text), 0.5)
}

/// `alpha` of what copies of the encoders think, from their similarities `[rows, keys]`, and the rest shared by the keys
/// that are right for each row.
pub(super) fn targets(
    similarities: &Tensor,
    alpha: f32,
    is_right: impl Fn(usize, usize) -> bool,
) -> Vec<f32> {
    let [_, keys] = similarities.dims();
    let mut targets = no_grad(|| ops::softmax(similarities)).to_vec();
    for (row, targets) in targets.chunks_exact_mut(keys).enumerate() {
        let right: Vec<usize> = (0..keys).filter(|&key| is_right(row, key)).collect();
        targets.iter_mut().for_each(|target| *target *= alpha);
        let each = (1.0 - alpha) / right.len().max(1) as f32;
        right.into_iter().for_each(|key| targets[key] += each);
    }
    targets
}

/// `1 / x` of a scalar.
fn reciprocal(x: &Tensor) -> Tensor {
    let value = x.detach().to_vec().first().copied().unwrap_or(1.0).recip();
    let y = Tensor::on(x.device(), &[value], x.shape());
    ops::custom(x, |_| y, move |dy| ops::scale(&dy, -value * value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reciprocal_has_its_gradient() {
        let x = Tensor::full(0.25, &[]).leaf();
        let y = reciprocal(&x);
        assert_eq!(y.item(), 4.0);
        assert_eq!(y.backward().take(&x).expect("x is a leaf").item(), -16.0);
    }

    #[test]
    fn targets_sum_to_one() {
        let similarities = Tensor::new(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &[2, 3]);
        let targets = targets(&similarities, 0.3, |row, key| key == row || (row == 1 && key == 2));
        let expected = [0.8, 0.1, 0.1, 0.1, 0.45, 0.45];
        assert!(targets.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{targets:?}");
    }
}
