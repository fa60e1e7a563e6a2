//! Captions and answers: those of the original program, and none that depends on what is written beside it.

#![allow(clippy::print_stderr)] // says what is skipped

mod common;
#[path = "common/golden.rs"]
mod golden;

use std::sync::OnceLock;

use common::picture;
use golden::case;
use proptest::collection::vec;
use proptest::prelude::*;
use tuwen::generate::{GenerationConfig, Listener, Token};
use tuwen::{Answerer, Captioner, Error, Model, Options, Pixels, WritingOptions, Written};

fn load(name: &str) -> Option<Model> {
    let path = case(name)?.join("model.pth");
    Some(tuwen::load(&path.to_string_lossy(), &Options::default()).expect("loads"))
}

fn captioner() -> Option<Captioner<'static>> {
    static LOADED: OnceLock<Option<Model>> = OnceLock::new();
    let model = LOADED.get_or_init(|| load("blip-sf-tiny-caption")).as_ref()?;
    Some(model.captioner().expect("writes"))
}

fn answerer() -> Option<Answerer<'static>> {
    static LOADED: OnceLock<Option<Model>> = OnceLock::new();
    let model = LOADED.get_or_init(|| load("blip-sf-tiny-vqa")).as_ref()?;
    Some(model.answerer().expect("answers"))
}

fn texts(written: &[Vec<Written>]) -> Vec<Vec<&str>> {
    written.iter().map(|texts| texts.iter().map(|text| text.text.as_str()).collect()).collect()
}

/// Each way of writing: greedy, beams of both kinds, several beams, and drawn.
fn ways(captioner: &Captioner<'_>) -> Vec<WritingOptions> {
    let own = captioner.options();
    let with = |generation| WritingOptions { generation, ..own.clone() };
    let config = || own.generation.clone();
    vec![
        own.clone(),
        with(GenerationConfig { num_beams: 1, ..config() }),
        with(GenerationConfig {
            num_beams: 4,
            num_return_sequences: 4,
            beam_rules: Default::default(),
            ..config()
        }),
        with(GenerationConfig { num_return_sequences: 3, ..captioner.nucleus(0.9, 7).generation }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_caption_does_not_depend_on_what_is_beside_it(
        pictures in vec((1u8..90, 1u8..90, any::<u32>()), 1..9),
        chosen in vec(any::<prop::sample::Index>(), 1..9),
    ) {
        let Some(captioner) = captioner() else { return Ok(()) };
        let pictures: Vec<Pixels> =
            pictures.iter().map(|&(width, height, seed)| captioner.eye().prepare(&picture(width, height, seed))).collect();
        let chosen: Vec<usize> = chosen.iter().map(|index| index.index(pictures.len())).collect();
        let beside: Vec<Pixels> = chosen.iter().map(|&i| pictures[i].clone()).collect();
        for options in ways(&captioner) {
            let alone: Vec<_> = pictures
                .iter()
                .flat_map(|picture| captioner.caption(std::slice::from_ref(picture), &options).expect("writes"))
                .collect();
            let together = captioner.caption(&beside, &options).expect("writes");
            let expected: Vec<_> = chosen.iter().map(|&i| alone[i].clone()).collect();
            prop_assert_eq!(texts(&together), texts(&expected));
            for (got, expected) in together.concat().iter().zip(expected.concat()) {
                prop_assert!((got.generated.score - expected.generated.score).abs() < 1e-4);
            }
        }
    }
}

#[test]
fn what_is_drawn_follows_from_the_seed() {
    let Some(captioner) = captioner() else { return };
    let image = [captioner.eye().prepare(&picture(40, 50, 3))];
    let drawn = |seed| captioner.caption(&image, &captioner.nucleus(0.9, seed)).expect("writes");
    assert_eq!(drawn(1), drawn(1));
    let different = (0..8).map(drawn).filter(|texts| *texts != drawn(1)).count();
    assert!(different > 3, "{different}");
}

#[test]
fn texts_end_before_what_stops_them() {
    let Some(captioner) = captioner() else { return };
    let image = [captioner.eye().prepare(&picture(40, 50, 3))];
    let whole = captioner.caption(&image, &captioner.options()).expect("writes");
    let whole = &whole[0][0].text;
    let word = whole.split(' ').nth(1).expect("a second word").to_owned();
    for num_beams in [1, 3] {
        let own = captioner.options();
        let generation = GenerationConfig { num_beams, ..own.generation };
        let options = WritingOptions { generation, stop: vec![word.clone()], ..own };
        let stopped = captioner.caption(&image, &options).expect("writes");
        assert!(!stopped[0][0].text.contains(&word), "{:?}", stopped[0][0].text);
    }
}

/// Keeps what it hears.
#[derive(Default)]
struct Ear(Vec<Token>);

impl Listener for Ear {
    fn token(&mut self, token: Token) {
        self.0.push(token);
    }
}

#[test]
fn a_listener_hears_every_token() {
    let Some(captioner) = captioner() else { return };
    let images = [captioner.eye().prepare(&picture(40, 50, 3)), captioner.eye().prepare(&picture(9, 80, 4))];
    let seen = captioner.look(&images);
    for options in ways(&captioner) {
        let mut ear = Ear::default();
        let written = captioner.write_aloud(&seen, &options, &mut ear).expect("writes");
        for (start, texts) in written.iter().enumerate() {
            for (sequence, text) in texts.iter().enumerate() {
                let heard = ear.0.iter().filter(|token| (token.start, token.sequence) == (start, sequence));
                assert_eq!(heard.map(|token| token.id).collect::<Vec<_>>(), text.generated.ids);
                assert_eq!(text.generated.ids.len(), text.generated.token_scores.len());
                assert!(text.generated.token_scores.iter().all(|score| *score <= 0.0));
            }
        }
    }
}

#[test]
fn questions_are_answered_alone_as_together() {
    let Some(answerer) = answerer() else { return };
    let images = [answerer.eye().prepare(&picture(40, 50, 3)), answerer.eye().prepare(&picture(9, 80, 4))];
    let seen = answerer.look(&images);
    let questions = [
        "what color is the dog?",
        "how many people are riding a bike near the water?",
        "where is the cat",
        "dog?",
    ];
    let each: Vec<&str> = [questions, questions].concat();
    let together = answerer.write(&seen, &each, &answerer.options()).expect("answers");
    let candidates = answerer.candidates(&["yes", "no", "black and white", "on the beach"]).expect("a list");
    let ranked = answerer.rank(&seen, &each, &candidates).expect("ranks");
    for (image, pixels) in images.iter().enumerate() {
        for (i, question) in questions.iter().enumerate() {
            let seen = answerer.look(std::slice::from_ref(pixels));
            let alone = answerer.write(&seen, &[question], &answerer.options()).expect("answers");
            let row = image * questions.len() + i;
            assert_eq!(texts(&together[row..=row]), texts(&alone));
            let alone = answerer.rank(&seen, &[question], &candidates).expect("ranks");
            let order =
                |answers: &[tuwen::RankedAnswer]| answers.iter().map(|a| a.candidate).collect::<Vec<_>>();
            assert_eq!(order(&ranked[row]), order(&alone[0]));
            assert!((ranked[row].iter().map(|answer| answer.probability).sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }
}

#[test]
fn a_long_question_is_cut_and_told() {
    let Some(answerer) = answerer() else { return };
    let long = "what color is the dog ".repeat(500);
    let told = answerer.truncated(&[long.as_str(), "what?"]).expect("read");
    assert_eq!(told.iter().map(|cut| cut.text).collect::<Vec<_>>(), [0]);
    assert!(told[0].tokens > 2000, "{}", told[0].tokens);
    let seen = answerer.look(&[answerer.eye().prepare(&picture(40, 50, 3))]);
    answerer.write(&seen, &[long], &answerer.options()).expect("answers");
}

#[test]
fn what_a_model_cannot_do_is_said() {
    let Some(model) = load("blip-sf-tiny-vqa") else { return };
    let error = model.captioner().err().expect("it answers");
    assert!(error.to_string().contains("cannot write captions; it can"), "{error}");
    let Some(model) = load("albef-sf-retrieval-tiny") else { return };
    let error = model.answerer().err().expect("it compares");
    assert!(error.to_string().contains("cannot answer questions; it can"), "{error}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let Some(captioner) = captioner() else { return };
    let image = [captioner.eye().prepare(&picture(4, 5, 3))];
    let refused = |change: fn(&mut GenerationConfig), expected: &str| {
        let mut options = captioner.options();
        change(&mut options.generation);
        let error = captioner.caption(&image, &options).expect_err("refused");
        assert!(matches!(error, Error::Generation(_)) && error.to_string().contains(expected), "{error}");
    };
    refused(|config| config.num_beams = 0, "num_beams is 0, expected at least 1");
    refused(
        |config| config.num_return_sequences = 4,
        "num_return_sequences is 4, expected at most num_beams",
    );
    refused(|config| config.temperature = f32::NAN, "temperature is NaN");
    refused(|config| config.top_p = 0.0, "top_p is 0, expected more than 0");
    refused(
        |config| config.max_length = Some(4),
        "max_length is 4, expected more than the 4 tokens of the prompt",
    );
    refused(|config| config.max_length = Some(100_000), "max_length is 100000, expected");
    refused(|config| config.min_length = 21, "min_length is 21, expected no more");
}
