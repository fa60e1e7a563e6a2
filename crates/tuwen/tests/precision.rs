//! Reduced precision against single precision: vectors of real photographs and of texts keep their directions.

#![allow(clippy::print_stderr)] // what is skipped is said

use std::path::Path;

use tuwen::{BUILTIN, Embeddings, Model, Options, Picture, Precision};

/// The least cosine to single precision that is allowed.
const LEAST: [(Precision, f64); 2] = [(Precision::Bf16, 0.9999), (Precision::Int8, 0.9995)];

const TEXTS: [&str; 4] = [
    "a photo of a cat.",
    "Two dogs run along a beach.",
    "A man in a red jacket climbs a wall of rock while his friends look on",
    "",
];

fn model(precision: Precision) -> Model {
    let options = Options { precision, ..Options::default() };
    tuwen::load(BUILTIN, &options).expect("it is built in")
}

fn photographs() -> Vec<Picture> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/photos");
    let Ok(entries) = std::fs::read_dir(folder) else {
        eprintln!("skipped: no {folder}");
        return Vec::new();
    };
    let is_image = |path: &Path| path.extension().is_some_and(|extension| extension == "jpg");
    let mut paths: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| is_image(path)).collect();
    paths.sort();
    paths.iter().map(|path| Picture::open(path).expect("a photograph")).collect()
}

fn least_cosine(a: &Embeddings, b: &Embeddings) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosines = a.rows().zip(b.rows()).map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
    cosines.fold(1.0, f64::min)
}

#[test]
fn directions_are_kept() {
    let (exact, photographs) = (model(Precision::F32), photographs());
    let texts = |model: &Model| model.embed_texts(&TEXTS).expect("it reads texts").embeddings;
    for (precision, least) in LEAST {
        let reduced = model(precision);
        assert_eq!(reduced.embedder().precision(), precision);
        let images = [&exact, &reduced].map(|model| model.embed_images(&photographs));
        for [a, b] in [images, [texts(&exact), texts(&reduced)]] {
            let cosine = least_cosine(&a, &b);
            assert!(cosine >= least, "{precision}: {cosine}");
            assert!(a.is_empty() || a != b, "{precision} computes as single precision does");
        }
    }
}
