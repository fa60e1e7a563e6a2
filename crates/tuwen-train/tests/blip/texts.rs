//! Captions and answers.

use tuwen_train::{Asked, CaptionedImages, GroundedPart};

use crate::case::Case;

#[test]
fn captions() {
    let Some(case) = Case::open("blip-sf-tiny-caption", "task = \"caption\"") else { return };
    let written = case.tokens("input_ids", "attention_mask");
    let pairs = CaptionedImages {
        taught: None,
        images: vec![0, 1, 2],
        tokens: written.clone(),
        written,
        written_images: vec![0, 1, 2],
        meanings: Vec::new(),
        ids: vec![0, 1, 2],
    };
    let part = GroundedPart { pixel_values: case.images(), pairs: Some(pairs), asked: None };
    let batch = case.batch(part);
    case.check(&batch, None, None, &[("lm", "loss")]);
    case.check_steps(&batch, |_| (None, None), "loss");
}

#[test]
fn answers() {
    let Some(case) = Case::open("blip-sf-tiny-vqa", "task = \"vqa\"") else { return };
    let counts = case.integers("train_n");
    let question_of_answer = (0..).zip(counts).flat_map(|(question, count)| vec![question; count as usize]);
    let asked = Asked {
        images: vec![0, 1, 2],
        tokens: case.tokens("question_ids", "question_mask"),
        answers: case.tokens("train_answer_ids", "train_answer_mask"),
        question_of_answer: question_of_answer.collect(),
        weights: case.tensor("inputs.safetensors", "train_weights").to_vec(),
    };
    let part = GroundedPart { pixel_values: case.images(), pairs: None, asked: Some(asked) };
    let batch = case.batch(part);
    case.check(&batch, None, None, &[("vqa", "train.loss")]);
    case.check_steps(&batch, |_| (None, None), "loss");
}
