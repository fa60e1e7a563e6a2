//! Letters on a picture, eight pixels square before they are enlarged.

use font8x8::{BASIC_FONTS, GREEK_FONTS, HIRAGANA_FONTS, LATIN_FONTS, UnicodeFonts as _};
use tuwen_data::image::RgbImage;

/// Pixels of a letter along a side, before it is enlarged.
pub(super) const SIDE: usize = 8;

const INK: [u8; 3] = [20; 3];

/// Writes as much of a text as fits into `width` pixels from `left` on; letters that the font lacks become boxes.
pub(super) fn write(
    picture: &mut RgbImage,
    text: &str,
    (left, top): (usize, usize),
    width: usize,
    scale: usize,
) {
    let fitting = width / (SIDE * scale);
    for (place, letter) in text.chars().take(fitting).enumerate() {
        let rows = glyph(letter);
        let pixels = (0..SIDE * SIDE).filter(|at| rows[at / SIDE] >> (at % SIDE) & 1 == 1);
        for at in pixels {
            let (x, y) = (left + (place * SIDE + at % SIDE) * scale, top + at / SIDE * scale);
            square(picture, (x, y), scale);
        }
    }
}

fn glyph(letter: char) -> [u8; SIDE] {
    const BOX: [u8; SIDE] = [0x7e, 0x42, 0x42, 0x42, 0x42, 0x42, 0x7e, 0];
    let latin = || BASIC_FONTS.get(letter).or_else(|| LATIN_FONTS.get(letter));
    let others = || GREEK_FONTS.get(letter).or_else(|| HIRAGANA_FONTS.get(letter));
    latin().or_else(others).unwrap_or(BOX)
}

fn square(picture: &mut RgbImage, (left, top): (usize, usize), side: usize) {
    for y in top..(top + side).min(picture.height) {
        for x in left..(left + side).min(picture.width) {
            picture.data[3 * (y * picture.width + x)..][..3].copy_from_slice(&INK);
        }
    }
}
