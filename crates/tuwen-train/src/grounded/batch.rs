//! What a step of BLIP learns from.

use super::Keys;
use tuwen_data::rng::Rng;
use tuwen_models::TokenIds;
use tuwen_models::bert::EncoderStates;
use tuwen_tensor::{Tensor, ops};

/// Images, the captions that belong to them and the questions about them.
pub struct GroundedBatch {
    /// In parts that go through the network one at a time.
    pub parts: Vec<GroundedPart>,
    /// Where in the run it stands.
    pub place: Place,
}

/// What goes through the network together.
pub struct GroundedPart {
    /// `[images, 3, size, size]`.
    pub pixel_values: Tensor,
    /// Those of the images that have captions, and these.
    pub pairs: Option<CaptionedImages>,
    /// Questions about some of the images.
    pub asked: Option<Asked>,
}

/// Images with captions.
pub struct CaptionedImages {
    /// The image of each pair, each once.
    pub images: Vec<u32>,
    /// A caption of each, from `[CLS]` on.
    pub tokens: TokenIds,
    /// Captions that are written, from `[DEC]` on: all that were drawn.
    pub written: TokenIds,
    /// The pair of each of these; those of a pair stand together.
    pub written_images: Vec<u32>,
    /// What each pair is about: the name of its class, else its caption.
    pub meanings: Vec<String>,
    /// Their vectors as a teacher has them, where there is one.
    pub taught: Option<Keys>,
    /// A number for each image, by which the same one is known again.
    pub ids: Vec<u32>,
}

/// Questions and their answers.
pub struct Asked {
    /// The image of each question; those about an image stand together.
    pub images: Vec<u32>,
    /// The questions.
    pub tokens: TokenIds,
    /// Answers, from `[DEC]` on.
    pub answers: TokenIds,
    /// The question of each answer; those to a question stand together.
    pub question_of_answer: Vec<u32>,
    /// How much each answer counts.
    pub weights: Vec<f32>,
}

/// Where in a run a batch stands, which decides what is random about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The pass over the data.
    pub epoch: u64,
    /// Its number there.
    pub batch: u64,
    /// Batches in a pass.
    pub batches_per_epoch: u64,
}

impl Place {
    /// Passes over the data so far.
    pub fn epochs(&self) -> f64 {
        self.epoch as f64 + self.batch as f64 / self.batches_per_epoch.max(1) as f64
    }

    /// The random numbers of a purpose.
    pub(super) fn random(&self, seed: u64, purpose: &[u64]) -> Rng {
        Rng::new(&[&[seed, self.epoch, self.batch], purpose].concat())
    }
}

impl GroundedBatch {
    /// CaptionedImages in the parts before this one.
    pub(super) fn pairs_before(&self, part: usize) -> usize {
        self.pairs().take(part).map(|pairs| pairs.map_or(0, |pairs| pairs.images.len())).sum()
    }

    /// What each pair is about.
    pub(super) fn meanings(&self) -> Vec<String> {
        self.pairs().flatten().flat_map(|pairs| pairs.meanings.iter().cloned()).collect()
    }

    /// The number of the image of each pair.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.pairs().flatten().flat_map(|pairs| pairs.ids.iter().copied()).collect()
    }

    /// What a teacher makes of all pairs.
    pub(super) fn taught(&self) -> Option<Keys> {
        Keys::of_all(self.pairs().flatten().map(|pairs| pairs.taught.as_ref()))
    }

    fn pairs(&self) -> impl Iterator<Item = Option<&CaptionedImages>> {
        self.parts.iter().map(|part| part.pairs.as_ref())
    }
}

/// The states of some images `[images, tokens, width]`; no copy where they are all.
pub(super) fn images_of(states: &Tensor, images: &[u32]) -> Tensor {
    let [count, tokens, width] = states.dims();
    if images.iter().copied().eq(0..count as u32) {
        return states.clone();
    }
    let rows = ops::gather_rows(&states.reshape(&[count, tokens * width]), images);
    rows.reshape(&[images.len(), tokens, width])
}

/// What texts look at, of which several may be about an image, which then stand together.
pub(super) fn seen_by(states: &Tensor, image_of_text: &[u32]) -> EncoderStates {
    match evenly(image_of_text) {
        Some(images) => EncoderStates::new(images_of(states, &images)),
        None => EncoderStates::new(images_of(states, image_of_text)),
    }
}

/// States for texts, the `of_text`-th of them for each; no copy where all have equally many texts.
pub(super) fn repeated(states: &EncoderStates, of_text: &[u32]) -> EncoderStates {
    match evenly(of_text) {
        Some(rows) if rows.iter().copied().eq(0..states.batch() as u32) => states.clone(),
        Some(rows) => states.select(&rows),
        None => states.select(of_text),
    }
}

/// The numbers without repetition, if each stands there equally often and at one place.
fn evenly(numbers: &[u32]) -> Option<Vec<u32>> {
    let runs: Vec<&[u32]> = numbers.chunk_by(|a, b| a == b).collect();
    let even = runs.iter().all(|run| run.len() == runs[0].len());
    even.then(|| runs.iter().map(|run| run[0]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_an_image_share_it_where_all_have_equally_many() {
        assert_eq!(evenly(&[2, 2, 0, 0, 1, 1]), Some(vec![2, 0, 1]));
        assert_eq!(evenly(&[0, 0, 1]), None);
        let states = Tensor::new(&[0.0, 1.0, 2.0], &[3, 1, 1]);
        assert_eq!(seen_by(&states, &[0, 0, 2, 2]).batch(), 2);
        assert_eq!(seen_by(&states, &[0, 0, 2]).batch(), 3);
        let states = EncoderStates::new(states);
        assert_eq!(repeated(&states, &[0, 0, 1, 1, 2, 2]).batch(), 3);
        assert_eq!(repeated(&states, &[0, 1, 1]).batch(), 3);
    }

    #[test]
    fn places_count_passes() {
        let place = Place { epoch: 2, batch: 1, batches_per_epoch: 4 };
        assert_eq!(place.epochs(), 2.25);
        assert_ne!(place.random(1, &[0]).next_u64(), place.random(1, &[1]).next_u64());
    }
}
