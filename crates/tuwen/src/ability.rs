//! What a model can do, which follows from what its checkpoint was made for.

use std::fmt;

use tuwen_models::albef::AlbefTask;
use tuwen_models::blip::BlipTask;

use crate::{Error, GroundedConfig};

/// Something that a model may be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Vectors of images.
    EmbedImages,
    /// Vectors of texts.
    EmbedTexts,
    /// Vectors of images and texts that are looked at together.
    EmbedBoth,
    /// Images and texts in one space, where their cosines are taken (ITC).
    Compare,
    /// A head that saw both says whether they match (ITM).
    Match,
    /// Captions.
    Caption,
    /// Answers to questions.
    Answer,
    /// Whether a sentence is true of two images (NLVR2).
    JudgeTwoImages,
    /// What of an image words look at.
    Explain,
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmbedImages => "embed images",
            Self::EmbedTexts => "embed texts",
            Self::EmbedBoth => "embed images and texts together",
            Self::Compare => "compare images with texts",
            Self::Match => "tell whether image and text match by a head (ITM)",
            Self::Caption => "write captions",
            Self::Answer => "answer questions",
            Self::JudgeTwoImages => "judge sentences about two images",
            Self::Explain => "explain what words look at",
        })
    }
}

impl Ability {
    /// A published model that has it, by its hub id or after its file.
    pub fn example(self) -> &'static str {
        match self {
            Self::EmbedImages | Self::EmbedTexts | Self::Compare => "openai/clip-vit-base-patch32",
            Self::EmbedBoth | Self::Match | Self::Explain => "Salesforce/blip-itm-base-coco",
            Self::Caption => "Salesforce/blip-image-captioning-base",
            Self::Answer => "Salesforce/blip-vqa-base",
            Self::JudgeTwoImages => "model_base_nlvr.pth",
        }
    }

    /// All that a CLIP can do.
    pub(crate) const CLIP: &'static [Self] = &[Self::EmbedImages, Self::EmbedTexts, Self::Compare];

    /// Refuses a model that lacks this ability.
    pub(crate) fn require(self, model: &str, has: &'static [Self]) -> Result<(), Error> {
        if has.contains(&self) {
            return Ok(());
        }
        Err(Error::Unable { model: model.to_owned(), wanted: self, has })
    }
}

impl GroundedConfig {
    /// All that a network of this configuration can do.
    pub fn abilities(&self) -> &'static [Ability] {
        use Ability::{Answer, Caption, Compare, EmbedBoth, EmbedImages, EmbedTexts, JudgeTwoImages, Match};
        match self {
            Self::Blip(config) => match config.task {
                BlipTask::Caption => &[EmbedImages, Caption],
                BlipTask::Vqa => &[EmbedImages, EmbedBoth, Answer],
                BlipTask::Retrieval => &[EmbedImages, EmbedTexts, EmbedBoth, Compare, Match],
                BlipTask::Features => &[EmbedImages, EmbedTexts, EmbedBoth],
                BlipTask::Nlvr => &[EmbedImages, JudgeTwoImages],
                BlipTask::Pretrain if config.answers => {
                    &[EmbedImages, EmbedTexts, EmbedBoth, Compare, Match, Caption, Answer]
                }
                BlipTask::Pretrain => &[EmbedImages, EmbedTexts, EmbedBoth, Compare, Match, Caption],
                BlipTask::Joint => &[EmbedImages, EmbedTexts, Compare],
            },
            Self::Albef(config) => match config.task {
                AlbefTask::Vqa => &[EmbedImages, EmbedBoth, Answer],
                AlbefTask::Pretrain | AlbefTask::Retrieval => {
                    &[EmbedImages, EmbedTexts, EmbedBoth, Compare, Match]
                }
            },
        }
    }
}
