//! BLIP: an image encoder, and a BERT that reads texts, reads them beside an image, and writes.
//!
//! Paper: arXiv 2201.12086. References: salesforce/BLIP `models/*.py`, transformers `modeling_blip.py`.
//!
//! A checkpoint is made for a task and has the parts that this needs. What a network can do it gives as a view:
//! [`Captioner`], [`Answerer`], [`Encoders`], [`Matcher`], [`Nlvr`] or [`Joint`].

mod caption;
pub mod config;
mod cost;
mod encoders;
mod joint;
mod matching;
mod nlvr;
pub mod presets;
pub mod processor;
pub mod start;
mod vqa;
pub mod weights;

pub use caption::Captioner;
pub use config::{BlipConfig, BlipDialect, BlipTask, BlipTokens};
pub use encoders::Encoders;
pub use joint::Joint;
pub use matching::{Contrast, Matcher};
pub use nlvr::Nlvr;
pub use processor::BlipImageProcessor;
pub use vqa::Answerer;

use tuwen_nn::{Init, Linear, LoadReport, Parameters, Scope};
use tuwen_tensor::checkpoint::TensorSource;

use crate::bert::{Bert, BertDecoder};
use crate::clip::positions::{Interpolation, ResizedPositions};
use crate::{VisionTransformer, VitConfig};
use joint::Pooling;
use nlvr::Classifier;

/// From which heads are drawn, as BERT's matrices are.
const INIT: Init = Init::Normal(0.02);

/// The parts that a task needs.
pub struct Blip {
    vision_model: VisionTransformer,
    text_encoder: Option<Bert>,
    text_decoder: Option<BertDecoder>,
    contrast: Option<Contrast>,
    itm_head: Option<Linear>,
    classifier: Option<Classifier>,
    pooling: Option<Pooling>,
    /// Whether a network of pre-training answers too.
    answers: bool,
    parameters: Parameters,
}

impl Blip {
    /// Builds the network from a scope, which decides whether parameters are loaded or drawn.
    ///
    /// # Errors
    /// The report of everything that does not fit between the configuration and the checkpoint.
    pub fn new(config: &BlipConfig, scope: Scope) -> Result<Self, LoadReport> {
        let task = config.task;
        let vision_model = VisionTransformer::timm(&config.vision, &scope.enter("vision_model"));
        let encoder = |name| Bert::new("encoder", &config.text, &scope.enter(name));
        let text_encoder = match task {
            BlipTask::Caption => None,
            BlipTask::Joint => Some(encoder("text_model")),
            _ => Some(encoder("text_encoder")),
        };
        let decoder = scope.enter("text_decoder");
        let text_decoder = match (task, &config.answer_decoder, &text_encoder) {
            (BlipTask::Caption, ..) => Some(BertDecoder::new(&config.text, &decoder)),
            (BlipTask::Vqa, Some(answers), _) => Some(BertDecoder::new(answers, &decoder)),
            (BlipTask::Pretrain, _, Some(encoder)) => {
                Some(BertDecoder::sharing(&config.text, encoder, &decoder))
            }
            _ => None,
        };
        let matches = matches!(task, BlipTask::Retrieval | BlipTask::Pretrain);
        let width = config.text.hidden_size;
        let itm_head =
            || Linear::new(width, 2, Init::fan_in(width), Init::fan_in(width), &scope.enter("itm_head"));
        Ok(Self {
            vision_model,
            text_encoder,
            text_decoder,
            contrast: matches.then(|| Contrast::new(config, &scope)),
            itm_head: matches.then(itm_head),
            classifier: (task == BlipTask::Nlvr).then(|| Classifier::new(width, &scope.enter("cls_head"))),
            pooling: (task == BlipTask::Joint).then(|| Pooling::new(config, &scope)),
            answers: config.answers,
            parameters: scope.finish()?,
        })
    }

    /// All parameters, by our names.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The image encoder.
    pub fn vision_model(&self) -> &VisionTransformer {
        &self.vision_model
    }

    /// What writes, if the network has it.
    pub fn text_decoder(&self) -> Option<&BertDecoder> {
        self.text_decoder.as_ref()
    }

    /// The projections to the joint space, where the network has them.
    pub fn contrast(&self) -> Option<&Contrast> {
        self.contrast.as_ref()
    }

    /// What writes captions, if the network can: one for captions, or from pre-training.
    pub fn captioner(&self) -> Option<Captioner<'_>> {
        let text_decoder = self.text_decoder.as_ref()?;
        let writes_about_images = self.text_encoder.is_none() || self.itm_head.is_some();
        writes_about_images.then_some(Captioner { vision_model: &self.vision_model, text_decoder })
    }

    /// What answers questions, if the network can.
    pub fn answerer(&self) -> Option<Answerer<'_>> {
        let (Some(text_encoder), Some(text_decoder)) = (&self.text_encoder, &self.text_decoder) else {
            return None;
        };
        let answers = self.itm_head.is_none() || self.answers;
        answers.then_some(Answerer { vision_model: &self.vision_model, text_encoder, text_decoder })
    }

    /// What gives states of images, of texts, and of texts beside images, if the network has a text encoder for it.
    pub fn encoders(&self) -> Option<Encoders<'_>> {
        let plain = self.classifier.is_none() && self.pooling.is_none();
        let text_encoder = self.text_encoder.as_ref().filter(|_| plain)?;
        Some(Encoders { vision_model: &self.vision_model, text_encoder })
    }

    /// What compares images and texts, if the network can.
    pub fn matcher(&self) -> Option<Matcher<'_>> {
        let (encoders, contrast) = (self.encoders()?, self.contrast.as_ref()?);
        Some(Matcher { encoders, contrast, itm_head: self.itm_head.as_ref()? })
    }

    /// What judges a sentence about two images, if the network can.
    pub fn nlvr(&self) -> Option<Nlvr<'_>> {
        let (text_encoder, classifier) = (self.text_encoder.as_ref()?, self.classifier.as_ref()?);
        Some(Nlvr { vision_model: &self.vision_model, text_encoder, classifier })
    }

    /// What compares images and texts as CLIP does, if the network is transformers' `BlipModel`.
    pub fn joint(&self) -> Option<Joint<'_>> {
        let (text_model, pooling) = (self.text_encoder.as_ref()?, self.pooling.as_ref()?);
        Some(Joint { vision_model: &self.vision_model, text_model, pooling })
    }
}

/// Sets the image size of BLIP's or ALBEF's image encoder, and interpolates the positions of its checkpoint (under our
/// names) to match, as all programs do: bicubic, without anti-aliasing.
pub fn resized_positions<S: TensorSource>(
    source: S,
    vision: &mut VitConfig,
    image_size: usize,
) -> ResizedPositions<S> {
    const POSITIONS: &str = "vision_model.embeddings.position_embedding";
    vision.image_size = image_size;
    ResizedPositions::of(source, POSITIONS, vision.grid(), Interpolation::Bicubic)
}
