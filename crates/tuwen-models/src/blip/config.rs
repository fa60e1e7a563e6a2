//! Sizes of a BLIP model, from `config.json` or from the shapes of a state dict.

use tuwen_tensor::checkpoint::TensorSource;

use crate::bert::BertConfig;
use crate::{ConfigError, VitConfig, sizes};

mod hugging_face;
mod salesforce;

pub use salesforce::VISION_LAYER_NORM_EPS;
pub(crate) use salesforce::set_vision_arguments;

/// What a checkpoint was made for, which decides its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlipTask {
    /// Image encoder and text decoder: `BLIP_Decoder`, `BlipForConditionalGeneration`.
    Caption,
    /// With an encoder of questions between them: `BLIP_VQA`, `BlipForQuestionAnswering`.
    Vqa,
    /// Image encoder, text encoder, and heads for contrast and matching: `BLIP_ITM`, `BLIP_Retrieval`,
    /// `BlipForImageTextRetrieval`.
    Retrieval,
    /// The two encoders alone: `BLIP_Base`.
    Features,
    /// Two images and a sentence: `BLIP_NLVR`.
    Nlvr,
    /// Everything, the decoder sharing most of the text encoder: `BLIP_Pretrain`.
    Pretrain,
    /// transformers' `BlipModel`: two encoders that are pooled and meet as CLIP's do.
    Joint,
}

impl BlipTask {
    /// The task of a checkpoint under our names; `None` if it is no BLIP.
    pub fn of(source: &dyn TensorSource) -> Option<Self> {
        let names = source.names();
        let has = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
        let task = match (has("text_encoder."), has("text_decoder.")) {
            (true, true) if has("itm_head.") => Self::Pretrain,
            (true, true) => Self::Vqa,
            (false, true) => Self::Caption,
            (true, false) if has("cls_head.") => Self::Nlvr,
            (true, false) if has("itm_head.") || has("vision_proj.") => Self::Retrieval,
            (true, false) => Self::Features,
            (false, false) if has("text_model.encoder.layer.") => Self::Joint,
            (false, false) => return None,
        };
        has("vision_model.").then_some(task)
    }
}

/// Whose program a checkpoint is of. They behave differently where sizes are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlipDialect {
    /// transformers: texts keep the `[CLS]` that they begin with, captions begin with `[DEC]` alone, and the score of a
    /// beam is divided by the number of tokens that were written.
    HuggingFace,
    /// salesforce/BLIP and LAVIS: the image-grounded encoder reads `[ENC]` first, captions begin with a prompt, and the
    /// score of a beam is divided by its length with the prompt and without the end.
    Salesforce,
}

impl BlipDialect {
    /// What a caption begins with: written before it and taken off again.
    pub fn prompt(self) -> &'static str {
        match self {
            Self::HuggingFace => "",
            Self::Salesforce => "a picture of ",
        }
    }
}

/// Ids of the tokens that stand for no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlipTokens {
    /// Fills rows.
    pub pad: u32,
    /// `[CLS]`, begins what the text encoder reads.
    pub cls: u32,
    /// `[SEP]`, ends every text, written or read. (The `eos_token_id` of configurations is a leftover.)
    pub sep: u32,
    /// `[DEC]`, begins what the decoder writes.
    pub dec: u32,
    /// `[ENC]`, begins what the image-grounded encoder reads.
    pub enc: u32,
}

impl BlipTokens {
    /// Those of a vocabulary of BERT's with two tokens behind it.
    pub fn behind(vocab_size: usize) -> Self {
        let last = vocab_size.saturating_sub(1) as u32;
        Self { pad: 0, cls: 101, sep: 102, dec: last.saturating_sub(1), enc: last }
    }
}

/// Sizes of a BLIP model and what else its weights do not tell.
#[derive(Clone, Debug, PartialEq)]
pub struct BlipConfig {
    /// What it was made for.
    pub task: BlipTask,
    /// Whose program it is of.
    pub dialect: BlipDialect,
    /// The image encoder.
    pub vision: VitConfig,
    /// The text encoder, or the decoder of a captioner.
    pub text: BertConfig,
    /// The decoder of answers, which looks at the states of questions.
    pub answer_decoder: Option<BertConfig>,
    /// Width of the space in which images and texts are compared.
    pub image_text_hidden_size: usize,
    /// Whether the temperature of the contrast is kept.
    pub temperature: bool,
    /// Whether a network of pre-training learnt to answer questions too: its decoder looks at the states of a question as it
    /// looks at those of an image, which therefore have to be as wide.
    pub answers: bool,
    /// Special tokens.
    pub tokens: BlipTokens,
}

impl BlipConfig {
    /// What texts beside an image begin with when they are matched with it or ask about it.
    pub fn grounded_start(&self) -> u32 {
        match self.dialect {
            BlipDialect::HuggingFace => self.tokens.cls,
            BlipDialect::Salesforce => self.tokens.enc,
        }
    }

    /// Checks that the sizes make a network.
    ///
    /// # Errors
    /// The first size that is zero, absurd, or no multiple of what it has to be.
    pub fn checked(self) -> Result<Self, ConfigError> {
        self.vision.check()?;
        self.text.check("text")?;
        if let Some(decoder) = &self.answer_decoder {
            decoder.check("text decoder")?;
        }
        if self.answers && self.vision.hidden_size != self.text.hidden_size {
            let expected = format!("the texts' {}, as its decoder looks at both", self.text.hidden_size);
            return Err(ConfigError::unsupported("vision hidden_size", self.vision.hidden_size, &expected));
        }
        sizes::in_range(&[("image_text_hidden_size", self.image_text_hidden_size)])?;
        Ok(self)
    }
}
