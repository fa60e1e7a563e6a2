//! Panels: the picture, and for each word the picture under what the word looks at.

use tuwen_data::image::{Interpolation, RgbImage, resize};

use super::font::{SIDE, write};
use super::{Explanation, WordMap};

/// The longer side of a panel's picture, in pixels.
const LONGER_SIDE: usize = 256;
/// The shorter side is at least this: a sliver could not be seen.
const SHORTEST_SIDE: usize = 48;
/// Panels in a row.
const COLUMNS: usize = 4;
/// Pixels between panels.
const GAP: usize = 8;
/// How much letters are enlarged.
const LETTERS: usize = 2;
/// Height of a line of letters with the room below.
const LINE: usize = SIDE * LETTERS + GAP;
/// How fast colour covers the picture as importance grows.
const COVER: f32 = 0.7;

impl Explanation {
    /// Draws explanations of one picture, one below the other.
    pub fn draw(explanations: &[Self], image: &RgbImage) -> RgbImage {
        let image = &thumbnail(image);
        let panels: Vec<RgbImage> =
            explanations.iter().map(|explanation| explanation.panels(image)).collect();
        let width = panels.iter().map(|panel| panel.width).max().unwrap_or(0);
        let mut sheet = white(width, panels.iter().map(|panel| panel.height).sum());
        let mut top = 0;
        for panel in &panels {
            paste(&mut sheet, panel, (0, top));
            top += panel.height;
        }
        sheet
    }

    /// A title, the picture itself, and a panel for each word.
    fn panels(&self, image: &RgbImage) -> RgbImage {
        let (width, height) = (image.width + GAP, image.height + LINE + GAP);
        let count = self.words.len() + 1;
        let columns = count.min(COLUMNS);
        let mut sheet = white(columns * width + GAP, LINE + GAP + count.div_ceil(columns) * height);
        let whole = sheet.width - 2 * GAP;
        write(&mut sheet, &self.title, (GAP, GAP), whole, LETTERS);
        for number in 0..count {
            let place = (GAP + number % columns * width, GAP + LINE + number / columns * height);
            let word = number.checked_sub(1).map(|word| &self.words[word]);
            let panel = word.map_or_else(|| image.clone(), |word| word.over(image, self.grid));
            paste(&mut sheet, &panel, place);
            let text = word.map_or("", |word| &word.word);
            write(&mut sheet, text, (place.0, place.1 + image.height + GAP / 2), image.width, LETTERS);
        }
        sheet
    }
}

impl WordMap {
    /// The picture under the colours of importance, the greatest of which is red.
    fn over(&self, image: &RgbImage, grid: usize) -> RgbImage {
        let least = self.importance.iter().copied().fold(f32::INFINITY, f32::min);
        let greatest = self.importance.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let range = greatest - least;
        let share = |value: f32| if range > 0.0 { (value - least) / range } else { 0.0 };
        let shares: Vec<f32> = self.importance.iter().map(|&value| share(value)).collect();
        let mut covered = image.clone();
        for (at, pixel) in covered.data.chunks_exact_mut(3).enumerate() {
            let place = |at: usize, side: usize| (at as f32 + 0.5) / side as f32 * grid as f32 - 0.5;
            let (x, y) = (place(at % image.width, image.width), place(at / image.width, image.height));
            let share = between(&shares, grid, x, y);
            let cover = share.powf(COVER);
            for (channel, colour) in pixel.iter_mut().zip(heat(share)) {
                *channel = ((1.0 - cover) * f32::from(*channel) + cover * colour).round() as u8;
            }
        }
        covered
    }
}

/// A value between the middles of patches; beyond the last it stays.
fn between(values: &[f32], grid: usize, x: f32, y: f32) -> f32 {
    let last = grid.saturating_sub(1);
    let ends = |at: f32| {
        let at = at.clamp(0.0, last as f32);
        let first = at.floor() as usize;
        (first, (first + 1).min(last), at.fract())
    };
    let ((left, right, x), (top, bottom, y)) = (ends(x), ends(y));
    let value = |x: usize, y: usize| values.get(y * grid + x).copied().unwrap_or(0.0);
    let row = |y| value(left, y) * (1.0 - x) + value(right, y) * x;
    row(top) * (1.0 - y) + row(bottom) * y
}

/// From blue over green and yellow to red.
fn heat(share: f32) -> [f32; 3] {
    let ramp = |middle: f32| (1.5 - (4.0 * share - middle).abs()).clamp(0.0, 1.0) * 255.0;
    [ramp(3.0), ramp(2.0), ramp(1.0)]
}

fn thumbnail(image: &RgbImage) -> RgbImage {
    let longer = image.width.max(image.height).max(1);
    let side = |side: usize| (side * LONGER_SIDE).div_ceil(longer).max(SHORTEST_SIDE);
    resize(image, side(image.width), side(image.height), Interpolation::Bicubic)
}

fn white(width: usize, height: usize) -> RgbImage {
    RgbImage { width, height, data: vec![255; 3 * width * height] }
}

fn paste(sheet: &mut RgbImage, picture: &RgbImage, (left, top): (usize, usize)) {
    for (y, row) in picture.data.chunks_exact(3 * picture.width.max(1)).enumerate() {
        sheet.data[3 * ((top + y) * sheet.width + left)..][..row.len()].copy_from_slice(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explanation(words: usize) -> Explanation {
        let word = |number: usize| WordMap {
            word: format!("word{number}"),
            importance: (0..9).map(|patch| if patch == number { 2.0 } else { 0.5 }).collect(),
        };
        Explanation { title: "what is told, 猫".to_owned(), words: (0..words).map(word).collect(), grid: 3 }
    }

    #[test]
    fn the_most_important_patch_is_red_and_the_least_is_the_picture() {
        let image = RgbImage { width: 90, height: 60, data: vec![100; 3 * 90 * 60] };
        let covered = explanation(1).words[0].over(&image, 3);
        let pixel = |x: usize, y: usize| &covered.data[3 * (y * 90 + x)..][..3];
        assert_eq!(pixel(80, 50), [100, 100, 100]);
        assert!(pixel(5, 5)[0] > 120 && pixel(5, 5)[2] == 0, "{:?}", pixel(5, 5));
        let same = WordMap { word: String::new(), importance: vec![1.0; 9] };
        assert_eq!(same.over(&image, 3), image);
    }

    #[test]
    fn there_is_a_panel_for_each_word() {
        let image = RgbImage { width: 30, height: 2, data: vec![100; 3 * 30 * 2] };
        let one = Explanation::draw(&[explanation(2)], &image);
        let two = Explanation::draw(&[explanation(2), explanation(9)], &image);
        assert_eq!((one.width, two.width), (3 * (256 + 8) + 8, 4 * (256 + 8) + 8));
        assert_eq!(two.height, 2 * (24 + 8) + 4 * (48 + 24 + 8));
        assert!(one.data.chunks(3).any(|pixel| pixel == [20; 3]), "letters");
        assert_eq!(Explanation::draw(&[], &image).data.len(), 0);
    }

    #[test]
    fn colours_go_from_blue_to_red() {
        assert_eq!((heat(0.0)[0], heat(1.0)[2]), (0.0, 0.0));
        assert!(heat(0.0)[2] > 100.0 && heat(1.0)[0] > 100.0 && heat(0.5)[1] == 255.0);
    }
}
