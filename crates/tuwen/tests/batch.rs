//! An answer does not depend on what is asked beside it.

mod common;

use std::slice::from_ref;

use common::{assert_close, models, picture};
use proptest::collection::vec;
use proptest::prelude::*;
use tuwen::{Embeddings, Model, Picture};

/// For numbers of about 1: cosines, parts of unit vectors.
const TOLERANCE: f32 = 1e-5;
/// For probabilities, whose logits are cosines times a factor of up to 100.
const TOLERANCE_OF_PROBABILITIES: f32 = 2e-4;

fn pictures(most: usize) -> impl Strategy<Value = Vec<Picture>> {
    let sizes = vec((1u8..90, 1u8..90, any::<u32>()), 1..most);
    sizes.prop_map(|sizes| {
        sizes.into_iter().map(|(width, height, seed)| picture(width, height, seed)).collect()
    })
}

/// Texts of every length from nothing to far beyond what a model takes.
fn texts(most: usize) -> impl Strategy<Value = Vec<String>> {
    vec("\\PC{0,60}|([a-z]{1,9} ){0,90}|a photo of a (cat|dog)", 1..most)
}

fn assert_rows_agree(together: &Embeddings, alone: &[Embeddings]) {
    assert_eq!(together.len(), alone.len());
    for (row, alone) in together.rows().zip(alone) {
        assert_close(row, alone.values(), TOLERANCE, "in a batch and alone");
    }
}

fn each_text(model: &Model, texts: &[String]) -> Vec<Embeddings> {
    texts.iter().map(|text| model.embed_texts(&[text]).expect("it reads texts").embeddings).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn vectors_of_images(pictures in pictures(40)) {
        for model in models() {
            let alone: Vec<_> = pictures.iter().map(|picture| model.embed_images(from_ref(picture))).collect();
            assert_rows_agree(&model.embed_images(&pictures), &alone);
            let raw: Vec<_> = pictures.iter().map(|picture| model.raw_embedder().images(from_ref(picture))).collect();
            let lengths = raw.into_iter().map(Embeddings::normalized).collect::<Vec<_>>();
            assert_rows_agree(&model.embed_images(&pictures), &lengths);
        }
    }

    #[test]
    fn vectors_of_texts(texts in texts(90)) {
        for model in models() {
            let together = model.embed_texts(&texts).expect("it reads texts");
            assert_rows_agree(&together.embeddings, &each_text(model, &texts));
            let mut backwards = texts.clone();
            backwards.reverse();
            let mut rows: Vec<_> = each_text(model, &backwards);
            rows.reverse();
            assert_rows_agree(&together.embeddings, &rows);
        }
    }

    #[test]
    fn cosines_of_images_and_texts(pictures in pictures(6), texts in texts(6)) {
        for model in models() {
            let together = model.match_texts(&pictures, &texts).expect("it reads texts");
            for (picture, row) in pictures.iter().zip(&together) {
                for (text, cosine) in texts.iter().zip(row) {
                    let alone = model.match_texts(from_ref(picture), from_ref(text)).expect("it reads texts");
                    assert_close(&[*cosine], &alone[0], TOLERANCE, text);
                }
            }
        }
    }

    #[test]
    fn probabilities_of_labels(pictures in pictures(20), labels in texts(12)) {
        for model in models() {
            let classifier = model.classifier(&labels, &["{}", "a photo of a {}."]).expect("it reads texts");
            let together = classifier.probabilities(&model.embed_images(&pictures));
            for (picture, row) in pictures.iter().zip(&together) {
                let alone = classifier.probabilities(&model.embed_images(from_ref(picture)));
                assert_close(row, &alone[0], TOLERANCE_OF_PROBABILITIES, "in a batch and alone");
                // The best label is the same, unless two are as good.
                let best = model.classify(picture, &labels).expect("it reads texts");
                assert_eq!(best.len(), labels.len());
                assert!((best.iter().map(|class| class.score).sum::<f32>() - 1.0).abs() < 1e-4);
            }
        }
    }
}
