//! Files of predictions and of what people wrote: those of COCO, of Karpathy's split and of VQA.

mod captions;
mod error;
mod json;
mod keyed;
mod vqa;

pub use captions::{CaptionPredictions, CaptionReferences, caption_predictions, caption_references};
pub use error::AnnotationError;
pub use keyed::Keyed;
pub use vqa::{
    QuestionTypes, VqaPredictions, VqaQuestion, VqaQuestions, questions, vqa_predictions, vqa_questions,
};
