//! Rectangles, crops, mirror images and shifts.

use super::{Fit, RandomErasing, RandomResizedCrop};
use crate::image::{Area, Interpolation, RgbImage, resize_area, shortest_edge_to};
use crate::rng::Rng;

/// How often a random rectangle is drawn until one fits into the image.
const ATTEMPTS: usize = 10;

impl RandomResizedCrop {
    pub(super) fn choose(&self, width: usize, height: usize, rng: &mut Rng) -> Area {
        if let Some(area) = random_area(width, height, self.scale, self.ratio, rng) {
            return area;
        }
        // The middle, in a shape as near to the wanted ones as the image allows.
        let shape = (width as f32 / height as f32).clamp(self.ratio[0], self.ratio[1]);
        let cut_width = ((height as f32 * shape).round() as usize).clamp(1, width);
        let cut_height = ((width as f32 / shape).round() as usize).clamp(1, height);
        Area {
            left: (width - cut_width) / 2,
            top: (height - cut_height) / 2,
            width: cut_width,
            height: cut_height,
        }
    }
}

/// A rectangle of random size, shape (width divided by height) and place, if one fits.
fn random_area(width: usize, height: usize, scale: [f32; 2], ratio: [f32; 2], rng: &mut Rng) -> Option<Area> {
    (0..ATTEMPTS).find_map(|_| {
        let area = (width * height) as f32 * rng.range(scale[0], scale[1]);
        let shape = rng.range(ratio[0].ln(), ratio[1].ln()).exp();
        let cut_width = (area * shape).sqrt().round() as usize;
        let cut_height = (area / shape).sqrt().round() as usize;
        ((1..=width).contains(&cut_width) && (1..=height).contains(&cut_height)).then(|| Area {
            left: rng.below((width - cut_width) as u64 + 1) as usize,
            top: rng.below((height - cut_height) as u64 + 1) as usize,
            width: cut_width,
            height: cut_height,
        })
    })
}

impl RandomErasing {
    pub(super) fn apply(&self, size: usize, rng: &mut Rng, output: &mut [f32]) {
        let ratio = [1.0 / self.ratio[1], 1.0 / self.ratio[0]];
        let Some(area) = random_area(size, size, self.scale, ratio, rng) else { return };
        for plane in output.chunks_exact_mut(size * size) {
            for row in plane.chunks_exact_mut(size).skip(area.top).take(area.height) {
                row[area.left..area.left + area.width].fill(0.0);
            }
        }
    }
}

impl Fit {
    /// The image as a square of this size.
    pub fn apply(self, image: &RgbImage, size: usize) -> RgbImage {
        let (width, height) = match self {
            Self::Squash => (size, size),
            Self::CenterCrop => shortest_edge_to(image.width, image.height, size),
        };
        let (left, top) = ((width - size) / 2, (height - size) / 2);
        let area = Area { left, top, width: size, height: size };
        resize_area(image, width, height, area, Interpolation::Bicubic)
    }
}

/// A part of an image.
pub(super) fn cut(image: &RgbImage, area: Area) -> RgbImage {
    let mut data = Vec::with_capacity(area.width * area.height * 3);
    for row in image.data.chunks_exact(image.width * 3).skip(area.top).take(area.height) {
        data.extend_from_slice(&row[area.left * 3..(area.left + area.width) * 3]);
    }
    RgbImage { width: area.width, height: area.height, data }
}

/// Mirrors left and right.
pub(super) fn flip(image: &mut RgbImage) {
    for row in image.data.chunks_exact_mut(image.width * 3) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

/// Shifts the picture, at most by its size, and fills up with its reflection.
pub(super) fn translate(image: &RgbImage, right: i64, down: i64) -> RgbImage {
    let sources = |length: usize, shift: i64| -> Vec<usize> {
        let length = length as i64;
        (0..length)
            .map(|place| {
                let from = place - shift;
                let reflected = if from < 0 { -1 - from } else { from.min(2 * length - 1 - from) };
                reflected as usize
            })
            .collect()
    };
    let columns = sources(image.width, right);
    let mut data = Vec::with_capacity(image.data.len());
    for row in sources(image.height, down) {
        let pixels = image.data[row * image.width * 3..][..image.width * 3].as_chunks::<3>().0;
        columns.iter().for_each(|&column| data.extend_from_slice(&pixels[column]));
    }
    RgbImage { width: image.width, height: image.height, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of `height` rows whose red is the column, green the row.
    fn grid(width: usize, height: usize) -> RgbImage {
        let pixel = |place: usize| [(place % width) as u8, (place / width) as u8, 0];
        RgbImage { width, height, data: (0..width * height).flat_map(pixel).collect() }
    }

    fn reds(image: &RgbImage, row: usize) -> Vec<u8> {
        image.data[row * image.width * 3..][..image.width * 3].iter().step_by(3).copied().collect()
    }

    #[test]
    fn shifts_reflect() {
        let image = grid(4, 3);
        assert_eq!(reds(&translate(&image, 2, 0), 0), [1, 0, 0, 1]);
        assert_eq!(reds(&translate(&image, -1, 0), 2), [1, 2, 3, 3]);
        assert_eq!(reds(&translate(&image, 4, 0), 0), [3, 2, 1, 0]);
        let greens =
            |image: &RgbImage| -> Vec<u8> { image.data.iter().skip(1).step_by(12).copied().collect() };
        assert_eq!(greens(&translate(&image, 0, 1)), [0, 0, 1]);
        assert_eq!(translate(&image, 0, 0), image);
    }

    #[test]
    fn flips_and_cuts() {
        let mut image = grid(4, 3);
        flip(&mut image);
        assert_eq!(reds(&image, 1), [3, 2, 1, 0]);
        let part = cut(&image, Area { left: 1, top: 1, width: 2, height: 2 });
        assert_eq!((part.width, part.height, reds(&part, 0)), (2, 2, vec![2, 1]));
        assert_eq!(part.data[1], 1);
    }

    #[test]
    fn random_crops_keep_to_their_ranges() {
        let crop = RandomResizedCrop { scale: [0.3, 0.6], ratio: [0.5, 2.0] };
        let mut rng = Rng::new(&[1]);
        let (mut lefts, mut smallest, mut largest) = (std::collections::BTreeSet::new(), 1f32, 0f32);
        for _ in 0..2000 {
            let area = crop.choose(100, 80, &mut rng);
            assert!(area.left + area.width <= 100 && area.top + area.height <= 80, "{area:?}");
            let (part, shape) =
                ((area.width * area.height) as f32 / 8000.0, area.width as f32 / area.height as f32);
            assert!((0.29..0.61).contains(&part) && (0.49..2.05).contains(&shape), "{area:?}");
            lefts.insert(area.left);
            (smallest, largest) = (smallest.min(part), largest.max(part));
        }
        assert!(lefts.len() > 30 && smallest < 0.32 && largest > 0.58);
        // Nothing fits: the middle.
        let crop = RandomResizedCrop { scale: [1.0, 1.0], ratio: [1.0, 1.0] };
        assert_eq!(crop.choose(100, 50, &mut rng), Area { left: 25, top: 0, width: 50, height: 50 });
        assert_eq!(crop.choose(1, 1, &mut rng), Area { left: 0, top: 0, width: 1, height: 1 });
    }

    #[test]
    fn fitting_gives_a_square() {
        for (width, height) in [(64, 64), (9, 40), (200, 31), (1, 1)] {
            for fit in [Fit::CenterCrop, Fit::Squash] {
                let square = fit.apply(&grid(width, height), 16);
                assert_eq!((square.width, square.height, square.data.len()), (16, 16, 768));
            }
        }
        // The middle of a wide image at its own height is cut out unchanged.
        assert_eq!(reds(&Fit::CenterCrop.apply(&grid(20, 8), 8), 3), (6..14).collect::<Vec<u8>>());
    }

    #[test]
    fn erasing_fills_a_rectangle() {
        let erasing = RandomErasing { probability: 1.0, scale: [0.1, 0.2], ratio: [0.5, 2.0] };
        let mut output = vec![1.0; 3 * 20 * 20];
        erasing.apply(20, &mut Rng::new(&[3]), &mut output);
        let planes: Vec<&[f32]> = output.chunks(400).collect();
        let erased = planes[0].iter().filter(|&&value| value == 0.0).count();
        assert!((36..=90).contains(&erased), "{erased}");
        assert!(planes.iter().all(|plane| plane == &planes[0]));
    }
}
