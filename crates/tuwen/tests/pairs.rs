//! Scores of pairs of image and text by BLIP and ALBEF, and what models say that cannot give them.

#![allow(clippy::print_stderr)] // says what is skipped

#[path = "common/golden.rs"]
mod golden;

use golden::case;
use tuwen::{Ability, Error, Model, Opened, Options, Picture, Pixels};

fn open(name: &str) -> Option<Model> {
    let path = case(name)?.join("model.pth");
    let files = Opened::open(&path.to_string_lossy(), &Options::default()).expect("opens");
    Some(Model::of(files).expect("loads"))
}

/// A BMP of one colour with a stripe.
fn picture(seed: u8) -> Picture {
    let (width, height) = (24_u32, 16_u32);
    let size = 54 + 3 * width * height;
    let mut file = b"BM".to_vec();
    for field in [size, 0, 54, 40, width, height, 1 | 24 << 16, 0, 3 * width * height, 0, 0, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    let pixel = |i: u32| [seed, (i * u32::from(seed)) as u8, if i % 24 < 5 { 200 } else { 3 }];
    file.extend((0..width * height).flat_map(pixel));
    Picture::decode(&file).expect("a BMP")
}

#[test]
fn a_pair_scores_the_same_whatever_it_stands_beside() {
    for name in ["blip-sf-tiny-itm", "blip-sf-pretrain-tiny", "albef-sf-retrieval-tiny"] {
        let Some(model) = open(name) else { continue };
        let scorer = model.pair_scorer().expect("it has the head");
        let pixels: Vec<Pixels> = [3, 90, 201].map(|seed| scorer.prepare(&picture(seed))).into();
        let texts = ["a dog", "a red hat on the beach", "two people sitting at a table", "snow"];
        let lists = [vec![texts[0], texts[1]], Vec::new(), vec![texts[3], texts[2], texts[0]]];
        let together = scorer.score(&scorer.encode(&pixels), &lists).expect("scored").scores;
        assert_eq!(together.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 3], "{name}");
        let vectors = model.embed_texts(&texts).expect("read").embeddings;
        for (image, (pixels, list)) in pixels.iter().zip(&lists).enumerate() {
            let seen = scorer.encode(std::slice::from_ref(pixels));
            let cosines = seen.embeddings().dot(&vectors);
            for (text, together) in list.iter().zip(&together[image]) {
                let alone = scorer.score(&seen, &[vec![text]]).expect("scored").scores[0][0];
                let number = texts.iter().position(|known| known == text).expect("one of them");
                assert!((alone.itm_logit - together.itm_logit).abs() < 2e-5, "{name}: {text}");
                assert!((alone.itm - together.itm).abs() < 1e-5 && (0.0..=1.0).contains(&alone.itm));
                assert!((cosines[0][number] - together.similarity).abs() < 1e-5, "{name}: {text}");
            }
        }
        let differ = |a: usize, b: usize| together[a][0].itm_logit - together[b][0].itm_logit;
        assert!(differ(0, 2).abs() > 1e-6, "{name}: pairs differ");
    }
}

#[test]
fn long_texts_are_cut_and_counted() {
    let Some(model) = open("blip-sf-tiny-itm") else { return };
    let scorer = model.pair_scorer().expect("it has the head");
    let seen = scorer.encode(&[scorer.prepare(&picture(7)), scorer.prepare(&picture(8))]);
    let long = "a dog running on the beach ".repeat(20);
    let scored = scorer.score(&seen, &[vec!["a dog"], vec![&long, &long[..162]]]).expect("scored");
    let cut: Vec<usize> = scored.truncated.iter().map(|truncated| truncated.text).collect();
    assert_eq!((cut, model.text_limit()), (vec![1, 2], 35));
    assert!((scored.scores[1][0].itm_logit - scored.scores[1][1].itm_logit).abs() < 2e-5);
    let none: [Vec<&str>; 2] = Default::default();
    assert_eq!(scorer.score(&seen, &none).expect("nothing").scores, [vec![], vec![]]);
}

#[test]
fn what_a_checkpoint_was_not_made_for_is_named() {
    let model = |name: &str| open(name);
    if let Some(model) = model("blip-sf-tiny-vqa") {
        let error = model.pair_scorer().err().expect("no such head").to_string();
        assert!(
            error.ends_with("it can embed images, embed images and texts together, answer questions"),
            "{error}"
        );
        let error = model.embed_texts(&["a dog"]).expect_err("not by themselves").to_string();
        assert!(error.contains("cannot embed texts;"), "{error}");
        let images = model.embed_images(&[picture(1)]);
        assert_eq!((images.len(), images.dim()), (1, 36));
    }
    if let Some(model) = model("blip-sf-tiny-feature") {
        let error = model.matcher(&["a dog"]).err().expect("no joint space");
        assert!(matches!(error, Error::Unable { wanted: Ability::Compare, .. }), "{error}");
        assert_eq!(model.embed_texts(&["a dog"]).expect("read").embeddings.dim(), 32);
    }
    let builtin = tuwen::load(tuwen::BUILTIN, &Options::default()).expect("built in");
    let error = builtin.pair_scorer().err().expect("a CLIP").to_string();
    assert!(error.contains("it can embed images, embed texts, compare images with texts"), "{error}");
}

#[test]
fn a_checkpoint_of_transformers_without_vocabulary_says_so() {
    let Some(folder) = case("blip-hf-tiny-itm") else { return };
    let model = tuwen::load(&folder.to_string_lossy(), &Options::default()).expect("loads");
    let error = model.pair_scorer().err().expect("no vocabulary").to_string();
    assert!(
        error.contains("no tokenizer, so no text can be read (looked for vocab.txt, tokenizer.json"),
        "{error}"
    );
}
