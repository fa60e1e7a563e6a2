//! Matching (ITM): whether a text belongs to an image, told by a head that saw both.

use tuwen_data::rng::Rng;
use tuwen_models::bert::EncoderStates;
use tuwen_tensor::{Targets, Tensor, no_grad, ops};

use super::contrast::{Keys, similarities};

/// Wrong partners, which are taken for right ones easily.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negatives {
    /// An image for each text.
    pub image_for_text: Vec<u32>,
    /// A text for each image.
    pub text_for_image: Vec<u32>,
}

/// Draws wrong partners with the probabilities that similarities give them: of pairs with each other or, where there are
/// `keys`, with what the copies of the encoders made of these pairs. None where nothing is wrong for something.
pub(super) fn draw(
    [image, text]: &[Tensor; 2],
    keys: Option<&Keys>,
    temp: f32,
    ids: Option<&[u32]>,
    floor: f32,
    random: &mut Rng,
) -> Option<Negatives> {
    let temp = Tensor::full(temp, &[]);
    let (images, texts) = keys.map_or((image, text), |keys| (&keys.images, &keys.texts));
    let mut choose = |rows: &Tensor, keys: &Tensor| {
        let weights = weights(&no_grad(|| similarities(rows, keys, &temp)), ids, floor);
        let rows = weights.chunks_exact(keys.shape()[0]);
        rows.map(|weights| one_of(weights, random)).collect::<Option<Vec<u32>>>()
    };
    Some(Negatives { image_for_text: choose(text, images)?, text_for_image: choose(image, texts)? })
}

/// Probabilities of the wrong ones, from similarities `[pairs, pairs]`, with `floor` added to each: zero for a pair itself, or
/// for all with its number.
pub(super) fn weights(similarities: &Tensor, ids: Option<&[u32]>, floor: f32) -> Vec<f32> {
    let [_, pairs] = similarities.dims();
    let mut weights = no_grad(|| ops::softmax(similarities)).to_vec();
    // Shapes, by which memory is estimated, have no similarities.
    let floor = if similarities.is_on_cpu() { floor } else { 1.0 };
    for (row, weights) in weights.chunks_exact_mut(pairs).enumerate() {
        for (key, weight) in weights.iter_mut().enumerate() {
            let same = ids.map_or(row == key, |ids| ids[row] == ids[key]);
            *weight = if same { 0.0 } else { *weight + floor };
        }
    }
    weights
}

/// A number with the probability that its weight gives it; none if all are zero.
fn one_of(weights: &[f32], random: &mut Rng) -> Option<u32> {
    let total: f32 = weights.iter().sum();
    let mut left = random.uniform() * total;
    let mut last = None;
    for (number, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        last = Some(number as u32);
        left -= weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

/// Mean cross entropy of right pairs, of wrong images for the texts, and of wrong texts for the images; `logits` are those of
/// some of the texts, by their numbers, beside images.
pub(super) fn loss(
    count: usize,
    images: &EncoderStates,
    negatives: Option<&Negatives>,
    logits: impl Fn(&[u32], &EncoderStates) -> Tensor,
) -> Tensor {
    let all: Vec<u32> = (0..count as u32).collect();
    let Some(Negatives { image_for_text, text_for_image }) = negatives else {
        return ops::cross_entropy(&logits(&all, images), Targets::Classes(&vec![1; count]));
    };
    // The right and the wrong text of an image stand together and share it.
    let texts: Vec<u32> =
        all.iter().zip(text_for_image).flat_map(|(&right, &wrong)| [right, wrong]).collect();
    let of_images = logits(&texts, images);
    let of_texts = logits(&all, &images.select(image_for_text));
    let targets: Vec<u32> = (0..3 * count).map(|i| u32::from(i < texts.len() && i % 2 == 0)).collect();
    ops::cross_entropy(&ops::concat(&[&of_images, &of_texts], 0), Targets::Classes(&targets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_its_own_wrong_partner() {
        let values: Vec<f32> = (0..16).map(|i| (i as f32 * 0.7).sin()).collect();
        let similarities = Tensor::new(&values, &[4, 4]);
        let plain = weights(&similarities, None, 1e-4);
        let by_id = weights(&similarities, Some(&[5, 6, 5, 7]), 0.0);
        for i in 0..4 {
            assert_eq!(plain[5 * i], 0.0);
        }
        assert_eq!((by_id[2], by_id[8]), (0.0, 0.0));
        assert!(by_id[1] > 0.0 && plain.iter().filter(|&&weight| weight == 0.0).count() == 4);
    }

    #[test]
    fn a_high_floor_makes_all_wrong_ones_alike() {
        let similarities = Tensor::new(&[0.0, 9.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 9.0], &[3, 3]);
        let [hard, easy] = [1e-4, 10.0].map(|floor| weights(&similarities, None, floor));
        assert!(hard[1] > 100.0 * hard[2] && easy[1] < 1.2 * easy[2], "{hard:?} {easy:?}");
    }

    #[test]
    fn draws_follow_the_weights() {
        let mut random = Rng::new(&[1]);
        let mut counts = [0; 4];
        for _ in 0..4000 {
            counts[one_of(&[0.0, 1.0, 0.0, 3.0], &mut random).expect("there are weights") as usize] += 1;
        }
        assert!(counts[0] == 0 && counts[2] == 0 && (900..1100).contains(&counts[1]), "{counts:?}");
        assert_eq!(one_of(&[0.0, 0.0], &mut random), None);
    }
}
