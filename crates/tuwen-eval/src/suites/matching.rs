//! Matching: whether a head that saw image and text tells a caption of the image from one of another.

use std::ops::Range;

use tuwen::PairScore;
use tuwen_data::dataset::Dataset;
use tuwen_data::rng::Rng;

use super::rerank::each_scored;
use super::retrieval::Captions;
use crate::{Encoded, Encoder, EvalError, Metrics};

/// How well each caption of a data set is told from one of another image, which `seed` draws for it. `score` is given some
/// images and for each the numbers of captions. In percent: `itm_pair_accuracy` is how often the image's own caption has the
/// higher score of the two, `itc_pair_accuracy` the same by the cosine, and `itm_accuracy` how often the head says of a caption
/// what is true of it, at a probability of a half. `done` is told how many more images were scored.
///
/// # Errors
/// No captions, or captions of one image only.
pub fn matching<E: Encoder>(
    encoder: &E,
    (dataset, encoded): (&dyn Dataset, &Encoded),
    seed: u64,
    done: &mut dyn FnMut(usize),
    mut score: impl FnMut(&[E::Image], &[Vec<u32>]) -> Vec<Vec<PairScore>>,
) -> Result<Metrics, EvalError> {
    let Captions { texts, image_of_text } = Captions::of(encoded)?;
    let captions = captions_of(&image_of_text, encoded.samples.len());
    let pairs = with_wrong_ones(&captions, texts.len(), seed);
    if pairs.iter().all(Vec::is_empty) {
        return Err(EvalError::OneImage(encoded.data.clone()));
    }
    let mut told = Told::default();
    each_scored(encoder, dataset, &pairs, done, |images, wanted| {
        for scores in score(images, wanted) {
            scores.as_chunks().0.iter().for_each(|pair| told.add(pair));
        }
    })?;
    Ok(told.metrics())
}

/// The numbers of each image's captions, which stand together.
fn captions_of(image_of_text: &[usize], images: usize) -> Vec<Range<u32>> {
    let mut first = 0;
    let of_image = |image| {
        let count = image_of_text[first..].iter().take_while(|&&of| of == image).count();
        let range = first as u32..(first + count) as u32;
        first += count;
        range
    };
    (0..images).map(of_image).collect()
}

/// For each image its captions, each followed by one of another image; nothing where there is no other.
fn with_wrong_ones(captions: &[Range<u32>], count: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut random = Rng::new(&[seed]);
    let mut of_image = |own: &Range<u32>| {
        let others = count as u64 - own.len() as u64;
        let mut wrong = || {
            let drawn = random.below(others) as u32;
            if drawn < own.start { drawn } else { drawn + own.len() as u32 }
        };
        match others {
            0 => Vec::new(),
            _ => own.clone().flat_map(|right| [right, wrong()]).collect(),
        }
    };
    captions.iter().map(&mut of_image).collect()
}

/// What was told right so far, of `pairs` of a right and a wrong caption.
#[derive(Default)]
struct Told {
    pairs: f64,
    by_head: f64,
    by_cosine: f64,
    decisions: f64,
}

impl Told {
    fn add(&mut self, [right, wrong]: &[PairScore; 2]) {
        self.pairs += 1.0;
        self.by_head += first_is_higher(right.itm_logit, wrong.itm_logit);
        self.by_cosine += first_is_higher(right.similarity, wrong.similarity);
        self.decisions += f64::from(u8::from(right.itm > 0.5) + u8::from(wrong.itm <= 0.5)) / 2.0;
    }

    fn metrics(&self) -> Metrics {
        let percent = |count: f64| 100.0 * count / self.pairs;
        Metrics::from([
            ("itm_pair_accuracy".to_owned(), percent(self.by_head)),
            ("itc_pair_accuracy".to_owned(), percent(self.by_cosine)),
            ("itm_accuracy".to_owned(), percent(self.decisions)),
            ("pairs".to_owned(), self.pairs),
        ])
    }
}

/// 1, or a half for equal ones.
fn first_is_higher(first: f32, second: f32) -> f64 {
    match first.total_cmp(&second) {
        std::cmp::Ordering::Less => 0.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Greater => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_captions_are_of_other_images() {
        let captions = captions_of(&[0, 0, 2, 3, 3, 3], 4);
        assert_eq!(captions, [0..2, 2..2, 2..3, 3..6]);
        let pairs = with_wrong_ones(&captions, 6, 1);
        for (own, pairs) in captions.iter().zip(&pairs) {
            let (right, wrong): (Vec<u32>, Vec<u32>) =
                pairs.as_chunks().0.iter().map(|[a, b]| (*a, *b)).unzip();
            assert_eq!(right, own.clone().collect::<Vec<_>>());
            assert!(wrong.iter().all(|text| !own.contains(text) && *text < 6), "{pairs:?}");
        }
        let drawn: std::collections::BTreeSet<u32> =
            (0..50).flat_map(|seed| with_wrong_ones(&captions, 6, seed).remove(2)).collect();
        assert_eq!(drawn.len(), 6, "all of the others are drawn at some time");
        assert_eq!(with_wrong_ones(&captions_of(&[0, 0], 1), 2, 1), [Vec::<u32>::new()]);
    }

    #[test]
    fn what_is_told_is_counted() {
        let score = |itm: f32, similarity: f32| PairScore { itm, itm_logit: itm, similarity };
        let mut told = Told::default();
        told.add(&[score(0.9, 0.1), score(0.2, 0.1)]);
        told.add(&[score(0.4, 0.3), score(0.3, 0.7)]);
        let metrics = told.metrics();
        let metric = |name: &str| metrics[name];
        assert_eq!(metric("itm_pair_accuracy"), 100.0);
        assert_eq!(metric("itc_pair_accuracy"), 25.0);
        assert_eq!(metric("itm_accuracy"), 75.0);
        assert_eq!(metric("pairs"), 2.0);
    }
}
