//! A BLIP or ALBEF model in memory.

use std::path::PathBuf;

use tuwen_data::image::{Picture, Transform};
use tuwen_data::tokenizer::{BertTokenizer, Cleaning, Overflow, Padding, Truncated};
use tuwen_models::bert::{EncoderStates, first_state};
use tuwen_models::blip::BlipDialect;
use tuwen_models::clip::ImageFeatures;
use tuwen_models::{TokenIds, by_length};
use tuwen_nn::Pass;
use tuwen_tensor::{Tensor, no_grad, ops};

use super::network::of_length;
use super::{GroundedConfig, GroundedFiles, GroundedNetwork, PairScorer};
use crate::pixels::pixel_values;
use crate::{Ability, Embeddings, Error, Pixels};

/// What a pass costs beside its tokens, in tokens: reading the weights takes as long.
const PASS_COST: usize = 16;
/// Texts that are read together beside an image, at most.
pub(super) const PAIRS: usize = 128;
/// Tokens of a text that salesforce/BLIP reads when it compares it with images; ALBEF reads fewer.
const BLIP_TEXT: usize = 35;
const ALBEF_TEXT: usize = 30;

/// A network with what prepares images and texts for it.
pub struct GroundedModel {
    files: GroundedFiles,
    pub(super) network: GroundedNetwork,
}

impl GroundedModel {
    /// Images that are best encoded together: enough to keep the network busy, few enough for their states.
    pub const IMAGE_BATCH: usize = 8;

    /// Reads the weights.
    ///
    /// # Errors
    /// The report of everything that does not fit between weights and configuration.
    pub fn new(files: GroundedFiles) -> Result<Self, Error> {
        Ok(Self { network: files.load()?, files })
    }

    /// What the model was made of.
    pub fn files(&self) -> &GroundedFiles {
        &self.files
    }

    /// Sizes of the network.
    pub fn config(&self) -> &GroundedConfig {
        &self.files.config
    }

    /// The network itself.
    pub fn network(&self) -> &GroundedNetwork {
        &self.network
    }

    /// How images are prepared.
    pub fn transform(&self) -> &Transform {
        &self.files.processor.transform
    }

    /// The tokenizer, unless the model came without one.
    pub fn tokenizer(&self) -> Option<&BertTokenizer> {
        self.files.tokenizer.as_ref()
    }

    /// Says whether the model can do something.
    ///
    /// # Errors
    /// [`Error::Unable`], with what it can do.
    pub fn require(&self, ability: Ability) -> Result<(), Error> {
        ability.require(&self.files.name, self.files.config.abilities())
    }

    /// What scores pairs of images and texts.
    ///
    /// # Errors
    /// A model that cannot, or that has no tokenizer.
    pub fn pair_scorer(&self) -> Result<PairScorer<'_>, Error> {
        self.require(Ability::Match)?;
        self.known_tokenizer()?;
        Ok(PairScorer::new(self))
    }

    /// Prepares an image; several can be at once on several threads.
    pub fn prepare(&self, image: &Picture) -> Pixels {
        Pixels(self.files.processor.transform.apply(image))
    }

    /// The numbers of prepared images, `[batch, 3, size, size]`.
    pub fn pixel_values(&self, images: &[Pixels]) -> Tensor {
        pixel_values(self.transform(), self.files.config.vision().image_size, images)
    }

    /// States of all tokens of images, the class token first: `[batch, patches + 1, width]`.
    pub fn image_states(&self, images: &[Pixels]) -> Tensor {
        no_grad(|| self.network.vision_model().tokens(&self.pixel_values(images), &Pass::eval()))
    }

    /// Vectors of images `[batch, 3, size, size]`: those of [`ImageFeatures`], in the joint space where there is one, else
    /// the states of their class tokens.
    pub(crate) fn image_vectors(&self, features: ImageFeatures, pixel_values: &Tensor) -> Tensor {
        no_grad(|| {
            let states = self.network.vision_model().tokens(pixel_values, &Pass::eval());
            match features {
                ImageFeatures::Pooled => first_state(&states),
                _ => of_length(self.network.image_vectors(&states), features == ImageFeatures::Normalized),
            }
        })
    }

    /// Vectors of texts, likewise.
    ///
    /// # Panics
    /// If the network reads no texts by themselves.
    pub(crate) fn text_vectors(&self, tokens: &TokenIds, normalized: bool) -> Tensor {
        let lengths: Vec<usize> = (0..tokens.batch()).map(|row| tokens.tokens(row)).collect();
        no_grad(|| {
            by_length(&lengths, PASS_COST, |group| {
                let vectors = self.network.text_vectors(&tokens.compact(&numbers(group)));
                of_length(vectors.expect("only asked of a network that reads texts"), normalized)
            })
        })
    }

    /// What cosines are multiplied with before a softmax.
    pub(crate) fn logit_scale(&self) -> f32 {
        self.network.logit_scale()
    }

    /// Longest text in tokens, start and end included: what the original programs read when they compare it with images,
    /// or what transformers' network has positions for.
    pub fn text_limit(&self) -> usize {
        let (positions, limit) = match &self.files.config {
            GroundedConfig::Blip(config) => match config.dialect {
                BlipDialect::Salesforce => (config.text.max_position_embeddings, BLIP_TEXT),
                BlipDialect::HuggingFace => (config.text.max_position_embeddings, usize::MAX),
            },
            GroundedConfig::Albef(config) => (config.text.max_position_embeddings, ALBEF_TEXT),
        };
        positions.min(limit)
    }

    /// Ids of captions in rows as long as the longest, `[CLS]` first, cleaned and cut as the program does that the model
    /// is of.
    ///
    /// # Errors
    /// A model without a tokenizer.
    pub fn tokens(&self, captions: &[impl AsRef<str>]) -> Result<(TokenIds, Vec<Truncated>), Error> {
        let cleaning = match &self.files.config {
            GroundedConfig::Blip(config) => {
                (config.dialect == BlipDialect::Salesforce).then_some(Cleaning::BlipCaption)
            }
            GroundedConfig::Albef(_) => Some(Cleaning::AlbefCaption),
        };
        let clean = |caption: &str| match cleaning {
            // What is too long is cut, and named, as tokens.
            Some(cleaning) => cleaning.apply(caption, usize::MAX),
            None => caption.to_owned(),
        };
        let captions: Vec<String> = captions.iter().map(|caption| clean(caption.as_ref())).collect();
        let tokenizer = self.known_tokenizer()?;
        let mut batch =
            tokenizer.encode_batch(&captions, self.text_limit(), Padding::Longest, Overflow::Truncate)?;
        let truncated = std::mem::take(&mut batch.truncated);
        Ok((batch.into(), truncated))
    }

    /// As [`GroundedModel::tokens`], with the first token that the model's program writes beside an image.
    ///
    /// # Errors
    /// A model without a tokenizer.
    pub fn tokens_beside_images(
        &self,
        captions: &[impl AsRef<str>],
    ) -> Result<(TokenIds, Vec<Truncated>), Error> {
        let (tokens, truncated) = self.tokens(captions)?;
        Ok((self.grounded(tokens), truncated))
    }

    /// Vectors of each image with each text: first states of [`GroundedModel::tokens_beside_images`] beside states of
    /// images `[images, patches + 1, width]`, the texts of the first image first.
    ///
    /// # Panics
    /// If the network reads no texts beside images.
    pub fn embed_both(&self, states: &Tensor, texts: &TokenIds, normalized: bool) -> Embeddings {
        let images = states.shape()[0];
        let rows: Vec<u32> = (0..texts.batch() as u32).collect();
        let mut values = Vec::new();
        for image in 0..images {
            let seen = EncoderStates::new(ops::narrow(states, 0, image, 1));
            for rows in rows.chunks(PAIRS) {
                let read = no_grad(|| self.network.multimodal(&texts.compact(rows), &seen, &Pass::eval()));
                let read = read.expect("only asked of a network that reads texts beside images");
                values.extend(of_length(first_state(&read), normalized).to_vec());
            }
        }
        Embeddings::new(values, self.files.config.text().hidden_size)
    }

    /// The same texts as the encoder reads them beside an image: with the first token that the model's program writes.
    pub(crate) fn grounded(&self, tokens: TokenIds) -> TokenIds {
        match &self.files.config {
            GroundedConfig::Blip(config) => tokens.starting_with(config.grounded_start()),
            GroundedConfig::Albef(_) => tokens,
        }
    }

    pub(crate) fn known_tokenizer(&self) -> Result<&BertTokenizer, Error> {
        self.files.tokenizer.as_ref().ok_or_else(|| Error::NoTokenizer {
            directory: self.files.weights_path.parent().map_or_else(PathBuf::new, ToOwned::to_owned),
            looked_for: "vocab.txt, tokenizer.json",
            vocab_size: self.files.config.vocab_size(),
        })
    }
}

fn numbers(rows: &[usize]) -> Vec<u32> {
    rows.iter().map(|&row| row as u32).collect()
}
