//! Images and captions of a data set in pairs.

use tuwen::{Embeddings, EncodedTexts, PairScore, PairScorer, Pixels};
use tuwen_eval::EvalError;

/// All captions of a data set, ready to stand beside its images.
pub(super) struct Pairs<'m> {
    scorer: PairScorer<'m>,
    captions: EncodedTexts,
}

impl<'m> Pairs<'m> {
    pub fn of(captions: &[&str], scorer: PairScorer<'m>) -> Result<Self, EvalError> {
        let captions = scorer.encode_texts(captions);
        Ok(Self { scorer, captions: captions.map_err(|error| EvalError::Model(error.to_string()))? })
    }

    /// Vectors of the captions.
    pub fn embeddings(&self) -> &Embeddings {
        self.captions.embeddings()
    }

    /// Scores of images with those captions whose numbers stand in their lists.
    pub fn score(&self, images: &[Pixels], wanted: &[Vec<u32>]) -> Vec<Vec<PairScore>> {
        let size = self.scorer.batch_size();
        let batches = images.chunks(size).zip(wanted.chunks(size));
        let score =
            |(images, wanted)| self.scorer.score_pairs(&self.scorer.encode(images), &self.captions, wanted);
        batches.flat_map(score).collect()
    }
}
