//! How texts and images are brought to the form that BLIP takes.

use std::sync::Arc;

use tuwen_data::dataset::Question;
use tuwen_data::loader::Batch;
use tuwen_data::tokenizer::{BertTokenizer, Cleaning, Overflow, Padding};
use tuwen_models::TokenIds;
use tuwen_models::albef::AlbefConfig;
use tuwen_models::blip::{BlipConfig, BlipImageProcessor, BlipTask};
use tuwen_tensor::Tensor;

use super::{Asked, CaptionedImages};
use crate::TrainError;

/// Most words of a question in BLIP and in ALBEF.
const QUESTION_WORDS: [usize; 2] = [50, 30];

/// How texts and images are brought to the form that a network takes.
#[derive(Clone)]
pub struct GroundedPreparation {
    /// Texts to ids.
    pub tokenizer: Arc<BertTokenizer>,
    /// Pictures to pixel values; training uses its colours, evaluation all of it.
    pub processor: BlipImageProcessor,
    /// Side of the images in pixels.
    pub image_size: usize,
    /// Most ids of a text, start and end included; longer ones are cut.
    pub(super) context_length: usize,
    max_words: usize,
    cleaning: Cleaning,
    question_cleaning: Cleaning,
    max_question_words: usize,
    /// What captions begin with, as text.
    prompt: &'static str,
    /// Ids before the first that is learnt: the start, and the prompt.
    given: usize,
    dec: u32,
    grounded_start: u32,
}

impl GroundedPreparation {
    /// For a network, with its tokenizer.
    pub fn new(
        config: &BlipConfig,
        tokenizer: BertTokenizer,
        processor: BlipImageProcessor,
        max_words: usize,
    ) -> Self {
        // In pre-training captions stand by themselves.
        let prompt = if config.task == BlipTask::Caption { config.dialect.prompt() } else { "" };
        Self {
            given: 1 + tokenizer.encode(prompt).len(),
            tokenizer: Arc::new(tokenizer),
            processor,
            image_size: config.vision.image_size,
            context_length: config.text.max_position_embeddings,
            max_words,
            cleaning: Cleaning::BlipCaption,
            question_cleaning: Cleaning::BlipQuestion,
            max_question_words: QUESTION_WORDS[0],
            prompt,
            dec: config.tokens.dec,
            grounded_start: config.grounded_start(),
        }
    }

    /// The images of a part of a batch: `[images, 3, image_size, image_size]`.
    pub(super) fn pixel_values(&self, part: &Batch) -> Tensor {
        Tensor::new(&part.pixel_values, &[part.keys.len(), 3, self.image_size, self.image_size])
    }

    /// For ALBEF, whose texts all begin with `[CLS]`.
    pub(super) fn of_albef(
        config: &AlbefConfig,
        tokenizer: BertTokenizer,
        processor: BlipImageProcessor,
        max_words: usize,
    ) -> Self {
        Self {
            given: 1,
            image_size: config.vision.image_size,
            context_length: config.text.max_position_embeddings,
            max_words,
            cleaning: Cleaning::AlbefCaption,
            question_cleaning: Cleaning::AlbefQuestion,
            max_question_words: QUESTION_WORDS[1],
            prompt: "",
            dec: tokenizer.start_id(),
            grounded_start: tokenizer.start_id(),
            tokenizer: Arc::new(tokenizer),
            processor,
        }
    }

    /// Ids of a caption before the first that is learnt.
    pub fn given(&self) -> usize {
        self.given
    }

    /// What captions begin with, for so many images.
    pub(super) fn caption_start(&self, images: usize) -> TokenIds {
        let row: Vec<u32> = [self.dec].into_iter().chain(self.tokenizer.encode(self.prompt)).collect();
        TokenIds { ids: row.repeat(images), length: row.len(), attention_mask: None }
    }

    /// What answers begin with, for so many questions.
    pub(super) fn answer_start(&self, questions: usize) -> TokenIds {
        TokenIds { ids: vec![self.dec; questions], length: 1, attention_mask: None }
    }

    /// A caption as it is learnt.
    pub fn caption(&self, text: &str) -> String {
        self.cleaning.apply(text, self.max_words)
    }

    /// A question as it is learnt.
    pub fn question(&self, text: &str) -> String {
        self.question_cleaning.apply(text, self.max_question_words)
    }

    /// Ids of texts from `[CLS]` to `[SEP]`, as long as the longest.
    pub fn tokens(&self, texts: &[impl AsRef<str>]) -> Result<TokenIds, TrainError> {
        let limit = self.context_length;
        Ok(self.tokenizer.encode_batch(texts, limit, Padding::Longest, Overflow::Truncate)?.into())
    }

    /// Ids of texts as they are read beside images.
    pub(super) fn beside_images(&self, texts: &[impl AsRef<str>]) -> Result<TokenIds, TrainError> {
        Ok(self.tokens(texts)?.starting_with(self.grounded_start))
    }

    /// Captions of images as pairs: `captions` are those drawn for each image, which may be none.
    ///
    /// # Errors
    /// Texts that cannot become tokens.
    pub fn pairs(
        &self,
        captions: &[Vec<String>],
        class_names: &[Option<String>],
        ids: &[usize],
    ) -> Result<Option<CaptionedImages>, TrainError> {
        let images: Vec<u32> = (0..).zip(captions).filter(|(_, of)| !of.is_empty()).map(|(i, _)| i).collect();
        if images.is_empty() {
            return Ok(None);
        }
        let of = |image: u32| captions[image as usize].iter().map(|caption| self.caption(caption));
        let first: Vec<String> = images.iter().filter_map(|&image| of(image).next()).collect();
        let written: Vec<String> = images
            .iter()
            .flat_map(|&image| of(image).map(|caption| format!("{}{caption}", self.prompt)))
            .collect();
        let counts = images.iter().map(|&image| captions[image as usize].len());
        let class = |image: u32| class_names.get(image as usize).cloned().flatten();
        Ok(Some(CaptionedImages {
            tokens: self.tokens(&first)?,
            written: self.tokens(&written)?.starting_with(self.dec),
            written_images: (0..).zip(counts).flat_map(|(pair, count)| vec![pair; count]).collect(),
            meanings: images.iter().zip(first).map(|(&image, text)| class(image).unwrap_or(text)).collect(),
            ids: images.iter().map(|&image| ids[image as usize] as u32).collect(),
            taught: None,
            images,
        }))
    }

    /// Questions about images: `questions` are those drawn for each image, which may be none.
    ///
    /// # Errors
    /// Texts that cannot become tokens.
    pub fn asked(&self, questions: &[Vec<Question>]) -> Result<Option<Asked>, TrainError> {
        let (mut images, mut texts) = (Vec::new(), Vec::new());
        let (mut answers, mut question_of_answer, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (image, of_image) in questions.iter().enumerate() {
            for question in of_image {
                for (answer, weight) in question.weighted_answers() {
                    answers.push(answer.to_owned());
                    question_of_answer.push(texts.len() as u32);
                    weights.push(weight);
                }
                images.push(image as u32);
                texts.push(self.question(&question.question));
            }
        }
        if texts.is_empty() {
            return Ok(None);
        }
        let tokens = self.beside_images(&texts)?;
        let answers = self.tokens(&answers)?.starting_with(self.dec);
        Ok(Some(Asked { images, tokens, answers, question_of_answer, weights }))
    }
}
