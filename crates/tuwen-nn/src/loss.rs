//! Losses: free functions of tensors.

use tuwen_tensor::{Targets, Tensor, ops};

/// Symmetric cross entropy over the similarities of a batch (InfoNCE; CLIP, section 2.3 of the paper).
///
/// `image` and `text` are `[n, d]` of unit length, row i of one belonging to row i of the other; `logit_scale` is
/// the factor itself, not its logarithm. Other rows are negatives, unless `targets` `[n, n]` says that some of
/// them are as right as the diagonal.
pub fn contrastive_loss(
    image: &Tensor,
    text: &Tensor,
    logit_scale: &Tensor,
    targets: Option<&[f32]>,
) -> Tensor {
    let logits_per_image = ops::mul(&ops::matmul_nt(image, text), logit_scale);
    let logits_per_text = ops::permute(&logits_per_image, &[1, 0]);
    let diagonal: Vec<u32> = (0..image.shape()[0] as u32).collect();
    // The targets are symmetric, so the same rows serve both directions.
    let targets = targets.map_or(Targets::Classes(&diagonal), Targets::Soft);
    let image_loss = ops::cross_entropy(&logits_per_image, targets);
    let text_loss = ops::cross_entropy(&logits_per_text, targets);
    ops::scale(&ops::add(&image_loss, &text_loss), 0.5)
}

/// Targets `[n, n]` that share each row's weight among equal texts, so that a caption which occurs twice in a batch
/// is no negative of itself (UniCL, arXiv 2204.03610). `None` when all texts differ.
pub fn duplicate_targets<T: Eq>(texts: &[T]) -> Option<Vec<f32>> {
    let equal = |i: usize| texts.iter().map(move |other| texts[i] == *other);
    let counts: Vec<usize> = (0..texts.len()).map(|i| equal(i).filter(|&same| same).count()).collect();
    counts.iter().any(|&count| count > 1).then(|| {
        let row = |(i, &count): (usize, &usize)| {
            equal(i).map(move |same| if same { 1.0 / count as f32 } else { 0.0 }).collect::<Vec<f32>>()
        };
        counts.iter().enumerate().flat_map(row).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_directions_cost_the_logarithm_of_the_batch() {
        let same = Tensor::full(0.5, &[4, 4]);
        let loss = contrastive_loss(&same, &same, &Tensor::full(10.0, &[]), None).item();
        assert!((loss - 4f32.ln()).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn equal_texts_share_their_weight() {
        assert_eq!(duplicate_targets(&["a", "b"]), None);
        let targets = duplicate_targets(&["a", "b", "a"]).expect("a is twice there");
        assert_eq!(targets, [0.5, 0.0, 0.5, 0.0, 1.0, 0.0, 0.5, 0.0, 0.5]);
    }
}
