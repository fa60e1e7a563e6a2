//! Losses of image-text pairs: CLIP's softmax and SigLIP's sigmoid over all similarities of a batch, in one process or
//! in several that each hold a part of it.
//!
//! References: CLIP, arXiv 2103.00020, section 2.3; SigLIP, arXiv 2303.15343; open_clip `loss.py`.

use std::ops::Range;
use std::sync::Arc;

use tuwen_tensor::{Targets, Tensor, ops};

use crate::collective::{Collective, Single, gather, gather_others};
use crate::loss::Meanings;

/// How similarities become a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairLoss {
    /// Each image chooses among the texts and each text among the images (CLIP).
    Softmax,
    /// Each image and text are asked whether they belong together (SigLIP).
    Sigmoid,
}

/// From cosines to logits, `scale · cosine + bias`; scalars.
#[derive(Clone)]
pub struct Temperature {
    /// The factor itself, not its logarithm.
    pub scale: Tensor,
    /// SigLIP's; it changes nothing under a softmax.
    pub bias: Option<Tensor>,
}

impl Temperature {
    fn logits(&self, kind: PairLoss, rows: &Tensor, columns: &Tensor) -> Tensor {
        let logits = ops::mul(&ops::matmul_nt(rows, columns), &self.scale);
        match (&self.bias, kind) {
            (Some(bias), PairLoss::Sigmoid) => ops::add(&logits, bias),
            // Under a softmax its gradient would be rounding noise, which AdamW turns into steps.
            _ => logits,
        }
    }
}

/// A loss over the pairs of all processes, row i of the images belonging to row i of the texts.
#[derive(Clone)]
pub struct ContrastiveLoss {
    kind: PairLoss,
    /// Whether a process computes the softmax of its own rows only: less memory, the same gradient.
    local_loss: bool,
    /// Whether gradients flow back to the process that a feature came from; without, the gradient is another.
    gather_with_grad: bool,
    collective: Arc<dyn Collective>,
}

/// Largest number of similarities that [`ContrastiveLoss::blocks`] holds at a time, some 16 MB.
const BLOCK: usize = 1 << 22;

impl ContrastiveLoss {
    /// Over the batch of this process, which is the only one.
    pub fn new(kind: PairLoss) -> Self {
        Self::distributed(kind, true, true, Arc::new(Single))
    }

    /// Over the batches of several processes, each of the same size. A sigmoid is always local and exact.
    pub fn distributed(
        kind: PairLoss,
        local_loss: bool,
        gather_with_grad: bool,
        collective: Arc<dyn Collective>,
    ) -> Self {
        Self { kind, local_loss, gather_with_grad, collective }
    }

    /// How similarities become a loss.
    pub fn kind(&self) -> PairLoss {
        self.kind
    }

    /// The loss of this process, whose mean over the processes is that of the whole batch; a scalar.
    ///
    /// `image` and `text` are `[n, d]` of unit length. Other rows are negatives, unless they are equal by `meanings`,
    /// which are those of all processes in order.
    pub fn forward(
        &self,
        image: &Tensor,
        text: &Tensor,
        temperature: &Temperature,
        meanings: Option<&Meanings>,
    ) -> Tensor {
        if self.collective.size() == 1 {
            return self.whole(image, text, temperature, meanings);
        }
        let count = image.shape()[0];
        let first = self.collective.rank() * count;
        let sigmoid = self.kind == PairLoss::Sigmoid;
        let (local, with_grad) = (sigmoid || self.local_loss, sigmoid || self.gather_with_grad);
        let [images, texts] = [image, text].map(|x| match with_grad {
            true => gather(x, &self.collective),
            false => gather_others(x, !local, &self.collective),
        });
        if local {
            self.rows([image, text], [&images, &texts], first, temperature, meanings)
        } else {
            self.whole(&images, &texts, temperature, meanings)
        }
    }

    /// The loss of the batch of this process alone in parts that add up to it, made one after another: the backward
    /// pass of each needs memory for a few rows of similarities only.
    pub fn blocks<'a>(
        &'a self,
        image: &'a Tensor,
        text: &'a Tensor,
        temperature: impl Fn() -> Temperature + 'a,
        meanings: Option<&'a Meanings>,
    ) -> impl Iterator<Item = Tensor> + 'a {
        self.blocks_of((BLOCK / image.shape()[0].max(1)).max(1), image, text, temperature, meanings)
    }

    fn blocks_of<'a>(
        &'a self,
        rows: usize,
        image: &'a Tensor,
        text: &'a Tensor,
        temperature: impl Fn() -> Temperature + 'a,
        meanings: Option<&'a Meanings>,
    ) -> impl Iterator<Item = Tensor> + 'a {
        let count = image.shape()[0];
        (0..count).step_by(rows).map(move |first| {
            let rows = rows.min(count - first);
            if rows == count {
                return self.whole(image, text, &temperature(), meanings);
            }
            let part = [image, text].map(|x| ops::narrow(x, 0, first, rows));
            let loss = self.rows([&part[0], &part[1]], [image, text], first, &temperature(), meanings);
            ops::scale(&loss, rows as f32 / count as f32)
        })
    }

    /// The loss of all rows against all.
    fn whole(
        &self,
        image: &Tensor,
        text: &Tensor,
        temperature: &Temperature,
        meanings: Option<&Meanings>,
    ) -> Tensor {
        let logits_per_image = temperature.logits(self.kind, image, text);
        let targets = Rows::new(self.kind, 0..image.shape()[0], meanings);
        match self.kind {
            PairLoss::Sigmoid => ops::binary_cross_entropy(&logits_per_image, targets.targets()),
            PairLoss::Softmax => {
                let logits_per_text = ops::permute(&logits_per_image, &[1, 0]);
                // The targets are symmetric, so the same rows serve both directions.
                symmetric(&logits_per_image, &logits_per_text, &targets)
            }
        }
    }

    /// The loss of some rows, which begin at `first`, against all.
    fn rows(
        &self,
        [image, text]: [&Tensor; 2],
        [images, texts]: [&Tensor; 2],
        first: usize,
        temperature: &Temperature,
        meanings: Option<&Meanings>,
    ) -> Tensor {
        let logits_per_image = temperature.logits(self.kind, image, texts);
        let targets = Rows::new(self.kind, first..first + image.shape()[0], meanings);
        match self.kind {
            PairLoss::Sigmoid => ops::binary_cross_entropy(&logits_per_image, targets.targets()),
            PairLoss::Softmax => {
                symmetric(&logits_per_image, &temperature.logits(self.kind, text, images), &targets)
            }
        }
    }
}

fn symmetric(logits_per_image: &Tensor, logits_per_text: &Tensor, targets: &Rows) -> Tensor {
    let image_loss = ops::cross_entropy(logits_per_image, targets.targets());
    let text_loss = ops::cross_entropy(logits_per_text, targets.targets());
    ops::scale(&ops::add(&image_loss, &text_loss), 0.5)
}

/// What some rows of similarities should say.
enum Rows {
    Diagonal(Vec<u32>),
    Given(Vec<f32>),
}

impl Rows {
    fn new(kind: PairLoss, rows: Range<usize>, meanings: Option<&Meanings>) -> Self {
        match (meanings.filter(|meanings| meanings.has_duplicates()), kind) {
            (None, _) => Self::Diagonal(rows.map(|row| row as u32).collect()),
            (Some(meanings), PairLoss::Softmax) => Self::Given(meanings.shares(rows)),
            (Some(meanings), PairLoss::Sigmoid) => Self::Given(meanings.equal(rows)),
        }
    }

    fn targets(&self) -> Targets<'_> {
        match self {
            Self::Diagonal(classes) => Targets::Classes(classes),
            Self::Given(weights) => Targets::Soft(weights),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(scale: f32, bias: Option<f32>) -> Temperature {
        Temperature { scale: Tensor::full(scale, &[]), bias: bias.map(|bias| Tensor::full(bias, &[])) }
    }

    #[test]
    fn random_directions_cost_the_logarithm_of_the_batch() {
        let same = Tensor::full(0.5, &[4, 4]);
        let loss = ContrastiveLoss::new(PairLoss::Softmax);
        let loss = loss.forward(&same, &same, &constant(10.0, None), None).item();
        assert!((loss - 4f32.ln()).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn a_sigmoid_asks_for_each_pair() {
        let image = Tensor::new(&[1.0, 0.0, 0.0, 1.0], &[2, 2]);
        let loss = ContrastiveLoss::new(PairLoss::Sigmoid);
        let loss = loss.forward(&image, &image, &constant(3.0, Some(-1.0)), None).item();
        // Each row: -log σ(3 - 1) for its own text and -log σ(1) for the other.
        let softplus = |x: f32| x.exp().ln_1p();
        assert!((loss - softplus(-2.0) - softplus(-1.0)).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn blocks_add_up_to_the_loss_and_its_gradients() {
        let values = |seed: f32| (0..28).map(|i| (i as f32 * seed).sin()).collect::<Vec<_>>();
        let [image, text] =
            [1.3, 0.7].map(|seed| ops::l2_normalize(&Tensor::new(&values(seed), &[7, 4])).detach().leaf());
        let (scale, bias) = (Tensor::full(5.0, &[]).leaf(), Tensor::full(-2.0, &[]).leaf());
        let temperature = || Temperature { scale: scale.clone(), bias: Some(bias.clone()) };
        let meanings = Meanings::new(&["a", "b", "c", "b", "d", "a", "b"]);
        for kind in [PairLoss::Softmax, PairLoss::Sigmoid] {
            for meanings in [None, Some(&meanings)] {
                let loss = ContrastiveLoss::new(kind);
                let whole = loss.forward(&image, &text, &temperature(), meanings);
                let expected = whole.item();
                let whole = whole.backward();
                for rows in [1, 3, 7] {
                    let mut sum = 0.0;
                    let mut gradients = tuwen_tensor::Gradients::default();
                    for part in loss.blocks_of(rows, &image, &text, temperature, meanings) {
                        sum += part.item();
                        gradients.accumulate(part.backward());
                    }
                    assert!((sum - expected).abs() < 1e-5, "{kind:?}: {sum} and {expected}");
                    assert_eq!(whole.get(&bias).is_some(), kind == PairLoss::Sigmoid);
                    for leaf in [&image, &text, &scale, &bias] {
                        let (a, b) = (gradients.get(leaf), whole.get(leaf));
                        let [a, b] = [a, b].map(|g| g.map(Tensor::to_vec).unwrap_or_default());
                        assert_eq!(a.len(), b.len());
                        assert!(
                            a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 2e-6),
                            "{kind:?}: {a:?}, {b:?}"
                        );
                    }
                }
            }
        }
    }
}
