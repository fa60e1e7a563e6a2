//! Scores of pairs of image and text: by contrast (ITC) and by the head that saw both (ITM).

use std::collections::BTreeMap;

use tuwen_data::image::{ImageError, Picture};
use tuwen_data::tokenizer::Truncated;
use tuwen_models::TokenIds;
use tuwen_models::bert::EncoderStates;
use tuwen_nn::Pass;
use tuwen_tensor::{Tensor, no_grad, ops};

use super::GroundedModel;
use super::model::PAIRS;
use super::network::of_length;
use crate::embeddings::dot;
use crate::{Embeddings, Error, Pixels};

/// The ability to score pairs of image and text. An image is encoded once, whatever number of texts it is paired with.
#[derive(Clone, Copy)]
pub struct PairScorer<'m> {
    model: &'m GroundedModel,
}

/// Images that were encoded.
#[derive(Clone)]
pub struct EncodedImages {
    /// States of all tokens, `[batch, patches + 1, width]`.
    states: Tensor,
    embeddings: Embeddings,
}

/// Texts that were encoded by themselves, and are ready to be read beside images.
#[derive(Clone)]
pub struct EncodedTexts {
    /// With the first token of texts beside images.
    grounded: TokenIds,
    embeddings: Embeddings,
    truncated: Vec<Truncated>,
}

/// How well an image and a text fit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairScore {
    /// The cosine of both in the joint space (ITC), -1 to 1.
    pub similarity: f32,
    /// The logit of a match (ITM), by which retrieval ranks.
    pub itm_logit: f32,
    /// The probability of a match (ITM), 0 to 1.
    pub itm: f32,
}

/// Scores of all pairs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoredPairs {
    /// For each image those of its texts, in their order.
    pub scores: Vec<Vec<PairScore>>,
    /// Texts that were cut, counted through all images.
    pub truncated: Vec<Truncated>,
}

impl EncodedImages {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.embeddings.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// States of all tokens, the class token first, `[batch, patches + 1, width]`: a captioner with the same image encoder
    /// looks at them too.
    pub fn states(&self) -> &Tensor {
        &self.states
    }

    /// Unit vectors in the joint space.
    pub fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }
}

impl EncodedTexts {
    /// Number of texts.
    pub fn len(&self) -> usize {
        self.embeddings.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Unit vectors in the joint space.
    pub fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }

    /// Texts of more tokens than the model reads; what was beyond was left out.
    pub fn truncated(&self) -> &[Truncated] {
        &self.truncated
    }
}

impl<'m> PairScorer<'m> {
    pub(super) fn new(model: &'m GroundedModel) -> Self {
        Self { model }
    }

    /// Images that are best encoded together.
    pub fn batch_size(&self) -> usize {
        GroundedModel::IMAGE_BATCH
    }

    /// Decodes an image file for [`PairScorer::prepare`], which hides that it is not exact: see [`Picture::decode_for`].
    ///
    /// # Errors
    /// See [`Picture::decode`].
    pub fn decode(&self, bytes: &[u8]) -> Result<Picture, ImageError> {
        Picture::decode_for(bytes, self.model.transform())
    }

    /// Prepares an image; several can be at once on several threads.
    pub fn prepare(&self, image: &Picture) -> Pixels {
        self.model.prepare(image)
    }

    /// Encodes images.
    pub fn encode(&self, images: &[Pixels]) -> EncodedImages {
        self.encoded(self.model.image_states(images))
    }

    /// Takes images whose states are known, `[batch, patches + 1, width]`.
    pub fn encoded(&self, states: Tensor) -> EncodedImages {
        let vectors = no_grad(|| of_length(self.model.network.image_vectors(&states), true));
        EncodedImages { embeddings: Embeddings::new(vectors.to_vec(), vectors.last_dim()), states }
    }

    /// Encodes texts by themselves.
    ///
    /// # Errors
    /// None for a scorer that a model gave.
    pub fn encode_texts(&self, texts: &[impl AsRef<str>]) -> Result<EncodedTexts, Error> {
        let (tokens, truncated) = self.model.tokens(texts)?;
        let dim = self.model.config().text_dim();
        let vectors =
            if tokens.ids.is_empty() { Vec::new() } else { self.model.text_vectors(&tokens, true).to_vec() };
        let grounded = self.model.grounded(tokens);
        Ok(EncodedTexts { grounded, embeddings: Embeddings::new(vectors, dim), truncated })
    }

    /// Scores the texts of each image, as many as there are of each.
    ///
    /// # Errors
    /// None for a scorer that a model gave.
    ///
    /// # Panics
    /// If there are not as many lists of texts as images.
    pub fn score(
        &self,
        images: &EncodedImages,
        texts: &[Vec<impl AsRef<str>>],
    ) -> Result<ScoredPairs, Error> {
        let flat: Vec<&str> = texts.iter().flatten().map(AsRef::as_ref).collect();
        let encoded = self.encode_texts(&flat)?;
        let mut numbers = 0..flat.len() as u32;
        let pairs: Vec<Vec<u32>> =
            texts.iter().map(|texts| numbers.by_ref().take(texts.len()).collect()).collect();
        Ok(ScoredPairs { scores: self.score_pairs(images, &encoded, &pairs), truncated: encoded.truncated })
    }

    /// Scores of each image with some of the texts, by their numbers.
    ///
    /// # Panics
    /// If there are not as many lists of numbers as images, or there is no text of a number.
    pub fn score_pairs(
        &self,
        images: &EncodedImages,
        texts: &EncodedTexts,
        pairs: &[Vec<u32>],
    ) -> Vec<Vec<PairScore>> {
        assert_eq!(images.len(), pairs.len(), "a list of texts for each image");
        let mut logits = no_grad(|| self.itm_logits(&images.states, &texts.grounded, pairs)).into_iter();
        let of_image = |(image, texts_of_image): (&[f32], &Vec<u32>)| {
            let score = |(&text, [other, itm_logit]): (&u32, [f32; 2])| {
                let text = texts.embeddings.row(text as usize);
                let similarity = dot(image, text);
                PairScore { similarity, itm_logit, itm: (1.0 + (other - itm_logit).exp()).recip() }
            };
            texts_of_image.iter().zip(logits.by_ref()).map(score).collect()
        };
        images.embeddings.rows().zip(pairs).map(of_image).collect()
    }

    /// Logits of no match and match. Images with equally many texts run together, so that none is copied for its texts.
    fn itm_logits(&self, states: &Tensor, tokens: &TokenIds, pairs: &[Vec<u32>]) -> Vec<[f32; 2]> {
        let mut end = 0;
        // For each number of texts: the images that have so many, each with the place of its first logits.
        let mut of_count: BTreeMap<usize, Vec<(u32, usize)>> = BTreeMap::new();
        for (texts, image) in pairs.iter().zip(0..) {
            of_count.entry(texts.len()).or_default().push((image, end));
            end += texts.len();
        }
        let mut logits = vec![[0.0; 2]; end];
        of_count.remove(&0);
        for (count, images) in of_count {
            for images in images.chunks(PAIRS.div_ceil(count)) {
                let rows: Vec<u32> =
                    images.iter().flat_map(|&(image, _)| &pairs[image as usize]).copied().collect();
                let numbers: Vec<u32> = images.iter().map(|&(image, _)| image).collect();
                let found = self.itm_logits_of(&select(states, &numbers), &tokens.compact(&rows));
                for (&(_, first), found) in images.iter().zip(found.chunks_exact(count)) {
                    logits[first..first + count].copy_from_slice(found);
                }
            }
        }
        logits
    }

    fn itm_logits_of(&self, states: &Tensor, tokens: &TokenIds) -> Vec<[f32; 2]> {
        let states = EncoderStates::new(states.clone());
        let logits = self.model.network.itm_logits(tokens, &states, &Pass::eval());
        let logits = logits.expect("a scorer is only given of networks with this head").to_vec();
        logits.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()
    }
}

/// The states of some images; a copy only where these are not all.
fn select(states: &Tensor, images: &[u32]) -> Tensor {
    let [batch, tokens, width] = states.dims();
    if images.iter().copied().eq(0..batch as u32) {
        return states.clone();
    }
    ops::gather_rows(&states.reshape(&[batch, tokens * width]), images).reshape(&[
        images.len(),
        tokens,
        width,
    ])
}
