//! An answer does not depend on what is asked beside it.

use proptest::collection::vec;
use proptest::prelude::*;
use tuwen::{BUILTIN, Embeddings, Model, Options, Picture};

fn model() -> &'static Model {
    static MODEL: std::sync::OnceLock<Model> = std::sync::OnceLock::new();
    MODEL.get_or_init(|| tuwen::load(BUILTIN, &Options::default()).expect("it is built in"))
}

/// A grey BMP whose pixels follow from a number.
fn picture(width: u8, height: u8, seed: u32) -> Picture {
    let (width, height) = (u32::from(width), u32::from(height));
    let row = (width * 3).next_multiple_of(4);
    let size = 54 + row * height;
    let mut file = b"BM".to_vec();
    for field in [size, 0, 54, 40, width, height, 1 | 24 << 16, 0, row * height, 0, 0, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    file.extend((0..row * height).map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as u8));
    Picture::decode(&file).expect("a BMP")
}

fn assert_rows_agree(together: &Embeddings, alone: &[Embeddings]) {
    assert_eq!(together.len(), alone.len());
    for (row, alone) in together.rows().zip(alone) {
        for (a, b) in row.iter().zip(alone.values()) {
            assert!((a - b).abs() <= 1e-5, "{a} in a batch, {b} alone");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn images(sizes in vec((1u8..90, 1u8..90, any::<u32>()), 1..40)) {
        let pictures: Vec<Picture> = sizes.iter().map(|&(width, height, seed)| picture(width, height, seed)).collect();
        let alone: Vec<Embeddings> =
            pictures.iter().map(|picture| model().embed_images(std::slice::from_ref(picture))).collect();
        assert_rows_agree(&model().embed_images(&pictures), &alone);
    }

    #[test]
    fn texts(texts in vec("\\PC{0,60}|([a-z]{1,9} ){1,40}", 1..90)) {
        let alone: Vec<Embeddings> =
            texts.iter().map(|text| model().embed_texts(&[text]).expect("it reads texts").embeddings).collect();
        assert_rows_agree(&model().embed_texts(&texts).expect("it reads texts").embeddings, &alone);
    }
}
