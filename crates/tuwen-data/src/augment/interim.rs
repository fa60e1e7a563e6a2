//! Decoding and bicubic resizing, until `crate::image` has them.

use crate::image::RgbImage;

/// Decodes an image file.
pub(crate) fn decode(bytes: &[u8]) -> Result<RgbImage, image::ImageError> {
    let image = image::load_from_memory(bytes)?.into_rgb8();
    Ok(RgbImage { width: image.width() as usize, height: image.height() as usize, data: image.into_raw() })
}

/// Resizes with Pillow's bicubic filter, in floating point.
pub(crate) fn resize(image: &RgbImage, width: usize, height: usize) -> RgbImage {
    let mut rows = Vec::with_capacity(image.height * width * 3);
    let columns = weights(image.width, width);
    for row in image.data.chunks_exact(image.width * 3) {
        let pixels = row.as_chunks::<3>().0;
        for (first, weights) in &columns {
            let mut sum = [0.0f32; 3];
            for (weight, pixel) in weights.iter().zip(&pixels[*first..]) {
                (0..3).for_each(|channel| sum[channel] += weight * f32::from(pixel[channel]));
            }
            rows.extend(sum.map(|value| value.round().clamp(0.0, 255.0)));
        }
    }
    let mut data = Vec::with_capacity(width * height * 3);
    let mut sums = vec![0.0f32; width * 3];
    for (first, weights) in weights(image.height, height) {
        sums.fill(0.5);
        for (weight, row) in weights.iter().zip(rows.chunks_exact(width * 3).skip(first)) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
        }
        data.extend(sums.iter().map(|&sum| sum as u8));
    }
    RgbImage { width, height, data }
}

/// For each place of the result the first place of the source that it takes from, and the weights from there on.
fn weights(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = from as f32 / to as f32;
    let stretch = scale.max(1.0);
    let cubic = |distance: f32| match distance.abs() {
        x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        x if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        _ => 0.0,
    };
    (0..to)
        .map(|place| {
            let center = (place as f32 + 0.5) * scale;
            let first = (center - 2.0 * stretch + 0.5).max(0.0) as usize;
            let end = ((center + 2.0 * stretch + 0.5) as usize).min(from);
            let weights: Vec<f32> =
                (first..end).map(|source| cubic((source as f32 + 0.5 - center) / stretch)).collect();
            let sum: f32 = weights.iter().sum();
            (first, weights.into_iter().map(|weight| weight / sum).collect())
        })
        .collect()
}
