//! Affine maps of an image with the fixed-point arithmetic of OpenCV, and its blur.

use crate::image::RgbImage;

/// What lies outside an image.
const OUTSIDE: f64 = 128.0;
/// OpenCV's steps of a pixel: coordinates have 10 bits behind the point, of which 5 decide the weights.
const COORDINATE: f64 = 1024.0;
const STEPS: i64 = 32;

/// Maps an image, as large as it was: the pixel at `(x, y)` comes to `matrix · (x, y, 1)`, between pixels bilinearly.
pub(super) fn warp(image: &mut RgbImage, matrix: [[f64; 3]; 2]) {
    let [[a, b, c], [d, e, f]] = inverse(matrix);
    let fixed = |value: f64| (value * COORDINATE).round_ties_even() as i64;
    let half = COORDINATE as i64 / STEPS / 2;
    let (width, height) = (image.width, image.height);
    let mut data = Vec::with_capacity(image.data.len());
    for row in 0..height {
        let start = [b * row as f64 + c, e * row as f64 + f].map(|value| fixed(value) + half);
        for column in 0..width {
            let x = (start[0] + fixed(a * column as f64)) >> 5;
            let y = (start[1] + fixed(d * column as f64)) >> 5;
            data.extend_from_slice(&between(image, x, y));
        }
    }
    image.data = data;
}

fn inverse([[a, b, c], [d, e, f]]: [[f64; 3]; 2]) -> [[f64; 3]; 2] {
    let determinant = a * e - b * d;
    let scale = if determinant == 0.0 { 0.0 } else { determinant.recip() };
    let (ia, ib, id, ie) = (e * scale, -b * scale, -d * scale, a * scale);
    [[ia, ib, -ia * c - ib * f], [id, ie, -id * c - ie * f]]
}

/// The colour at a place in steps of a pixel.
fn between(image: &RgbImage, x: i64, y: i64) -> [u8; 3] {
    let (column, row) = (x.div_euclid(STEPS), y.div_euclid(STEPS));
    let (right, down) = (x.rem_euclid(STEPS), y.rem_euclid(STEPS));
    let pixel = |column: i64, row: i64| -> [i64; 3] {
        let inside = (0..image.width as i64).contains(&column) && (0..image.height as i64).contains(&row);
        if !inside {
            return [OUTSIDE as i64; 3];
        }
        let place = (row as usize * image.width + column as usize) * 3;
        std::array::from_fn(|channel| i64::from(image.data[place + channel]))
    };
    let corners =
        [pixel(column, row), pixel(column + 1, row), pixel(column, row + 1), pixel(column + 1, row + 1)];
    let (left, up) = (STEPS - right, STEPS - down);
    let weights = [left * up, right * up, left * down, right * down];
    let all = STEPS * STEPS;
    std::array::from_fn(|channel| {
        let sum: i64 = corners.iter().zip(weights).map(|(corner, weight)| corner[channel] * weight).sum();
        ((sum + all / 2) / all) as u8
    })
}

/// `blurred + factor · (image - blurred)` but for the border, where the blur is a mean with five times the weight for the
/// pixel itself. What leaves the range of a byte wraps, as in the reference.
pub(super) fn sharpen(image: &mut RgbImage, factor: f32) {
    if factor == 1.0 || image.width < 3 || image.height < 3 {
        return;
    }
    let old = image.data.clone();
    let stride = 3 * image.width;
    for row in 1..image.height - 1 {
        for place in row * stride + 3..(row + 1) * stride - 3 {
            let around = |row: usize| {
                let middle = place + row * stride - stride;
                [middle - 3, middle, middle + 3].map(|place| u32::from(old[place])).iter().sum::<u32>()
            };
            let sum = (0..3).map(around).sum::<u32>() + 4 * u32::from(old[place]);
            let blurred = (sum as f32 / 13.0).round_ties_even();
            image.data[place] = (blurred + factor * (f32::from(old[place]) - blurred)) as i32 as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_undoes() {
        let matrix = [[0.8, 0.6, 3.0], [-0.6, 0.9, -2.0]];
        let [[a, b, c], [d, e, f]] = inverse(matrix);
        let (x, y) = (5.0, 7.0);
        let [mx, my] = matrix.map(|[p, q, r]| p * x + q * y + r);
        assert!((a * mx + b * my + c - x).abs() < 1e-9 && (d * mx + e * my + f - y).abs() < 1e-9);
    }

    #[test]
    fn a_shift_leaves_grey_behind() {
        let mut image = RgbImage { width: 3, height: 1, data: (1..=9).collect() };
        warp(&mut image, [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]);
        assert_eq!(image.data, [128, 128, 128, 1, 2, 3, 4, 5, 6]);
    }
}
