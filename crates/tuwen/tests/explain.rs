//! What words look at, by models that match and by models that answer.

#![allow(clippy::print_stderr)] // says what is skipped

#[path = "common/golden.rs"]
mod golden;

use golden::case;
use tuwen::{Explanation, GroundedFiles, GroundedModel, Options, Picture};
use tuwen_data::image::RgbImage;

fn open(name: &str) -> Option<GroundedModel> {
    let path = case(name)?.join("model.pth");
    let files = GroundedFiles::open(&path.to_string_lossy(), &Options::default()).expect("opens");
    Some(GroundedModel::new(files).expect("loads"))
}

fn picture() -> (Picture, RgbImage) {
    let data = (0..40 * 30 * 3).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let image = RgbImage { width: 40, height: 30, data };
    (Picture::decode(&image.to_png().expect("encoded")).expect("a picture"), image)
}

fn words(explanation: &Explanation) -> Vec<&str> {
    explanation.words.iter().map(|word| word.word.as_str()).collect()
}

/// Every word has a value for each patch, none below zero, and some word looks at something.
fn assert_looks(explanation: &Explanation, grid: usize) {
    assert_eq!(explanation.grid, grid);
    let all = explanation.words.iter().flat_map(|word| {
        assert_eq!(word.importance.len(), grid * grid, "{}", word.word);
        word.importance.iter().copied()
    });
    let all: Vec<f32> = all.collect();
    assert!(all.iter().all(|&value| value >= 0.0) && all.iter().any(|&value| value > 1e-7), "{all:?}");
}

#[test]
fn words_of_a_caption() {
    let (picture, image) = picture();
    for (name, grid) in [("blip-sf-tiny-itm", 3), ("albef-sf-retrieval-tiny", 4)] {
        let Some(model) = open(name) else { continue };
        let explained = model.explain_match(&model.prepare(&picture), "Two people, snowboarding.");
        let explained = explained.expect("it has the head");
        let words = words(&explained);
        assert_eq!((words[0], words[1]), ("two", "people"), "{words:?}");
        assert!(words.iter().all(|word| !word.contains("##") && !word.contains('[')), "{words:?}");
        assert_looks(&explained, grid);
        let drawn = Explanation::draw(&[explained], &image);
        assert!(drawn.width > 256 && drawn.data.len() == 3 * drawn.width * drawn.height);
        let nothing = model.explain_match(&model.prepare(&picture), "").expect("an empty text");
        assert!(nothing.words.is_empty());
    }
}

#[test]
fn words_of_a_question_by_the_answer() {
    let (picture, _) = picture();
    let Some(model) = open("blip-sf-tiny-vqa") else { return };
    let pixels = model.prepare(&picture);
    let explain =
        |answer: &str| model.explain_answer(&pixels, "what color is the dog?", answer).expect("answers");
    let (red, two) = (explain("red"), explain("two"));
    assert_eq!((words(&red).first(), words(&red).last()), (Some(&"what"), Some(&"?")));
    assert_looks(&red, 3);
    assert_ne!(red.words, two.words, "the answer decides what is looked at");
    let message = model.explain_match(&pixels, "a dog").expect_err("no such head").to_string();
    assert!(message.contains("by a head (ITM); it can embed images"), "{message}");
}
