//! An answer does not depend on the instruction set or the number of threads, nor there on its batch.
//!
//! One test, alone in its program, because both are chosen for the whole process.

mod common;

use std::slice::from_ref;

use common::{assert_close, models, picture};
use tuwen::{Embeddings, Model, Picture};
use tuwen_kernels::{available, force_isa, isa, set_threads};

const TOLERANCE: f32 = 1e-5;
const TEXTS: [&str; 6] =
    ["", "a cat", "a photo of two dogs in the snow", "日本", "a", "the end of a very long day"];

fn answers(model: &Model, pictures: &[Picture]) -> [Embeddings; 2] {
    [model.embed_images(pictures), model.embed_texts(&TEXTS).expect("it reads texts").embeddings]
}

fn answers_one_by_one(model: &Model, pictures: &[Picture]) -> [Vec<Embeddings>; 2] {
    let text = |text: &&str| model.embed_texts(&[text]).expect("it reads texts").embeddings;
    [
        pictures.iter().map(|picture| model.embed_images(from_ref(picture))).collect(),
        TEXTS.iter().map(text).collect(),
    ]
}

#[test]
fn every_instruction_set_and_number_of_threads_gives_the_same_answers() {
    let pictures: Vec<Picture> =
        (0..19).map(|i| picture(7 + 11 * (i % 8), 90 - 4 * i, u32::from(i))).collect();
    let fastest = isa();
    for model in models() {
        set_threads(1);
        force_isa(available()[0]).expect("every CPU has it");
        let expected = answers(model, &pictures);
        for isa in available() {
            force_isa(isa).expect("it is available");
            for threads in [1, 2, 3, 8] {
                set_threads(threads);
                let what = format!("{}, {isa:?}, {threads} threads", model.name());
                let alone = answers_one_by_one(model, &pictures);
                for ((expected, got), alone) in expected.iter().zip(answers(model, &pictures)).zip(alone) {
                    assert_close(got.values(), expected.values(), TOLERANCE, &what);
                    for (row, alone) in got.rows().zip(&alone) {
                        assert_close(row, alone.values(), TOLERANCE, &what);
                    }
                }
            }
        }
    }
    force_isa(fastest).expect("it was in use");
}
