//! Resizing as Pillow does it, to the bit: two passes in fixed point with bytes in between.
//!
//! Reference: Pillow `src/libImaging/Resample.c` and `Geometry.c`.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use tuwen_kernels::{Taps, resample_across, resample_along};

use super::{Area, RgbImage};

/// How pixels between pixels are made up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The pixel that the middle falls on.
    Nearest,
    /// A triangle, stretched when the image shrinks.
    Bilinear,
    /// Keys' cubic with a = -0.5, stretched when the image shrinks.
    #[default]
    Bicubic,
}

/// Resizes an image.
///
/// # Panics
/// Where a side is 0, of the image or of the result.
pub fn resize(image: &RgbImage, width: usize, height: usize, interpolation: Interpolation) -> RgbImage {
    resize_area(image, width, height, Area { left: 0, top: 0, width, height }, interpolation)
}

/// The part `area` of what [`resize`] returns for `width` and `height`; only this part is computed.
///
/// # Panics
/// Where a side is 0, of the image or of the result, or where the part is not inside the result.
pub fn resize_area(
    image: &RgbImage,
    width: usize,
    height: usize,
    area: Area,
    interpolation: Interpolation,
) -> RgbImage {
    let source = Source { size: (image.width, image.height), extent: None };
    let data = resample::<3>(&image.data, source, (width, height), area, interpolation);
    RgbImage { width: area.width, height: area.height, data }
}

/// Width and height of what is resized.
#[derive(Clone, Copy)]
pub(super) struct Source {
    /// In whole pixels.
    pub size: (usize, usize),
    /// What the result shows of it, where the last pixels of the lines are not whole ones.
    pub extent: Option<(f64, f64)>,
}

/// Resizes `CHANNELS` interleaved bytes a pixel from `source` to the size `to`, of which it returns an area.
pub(super) fn resample<const CHANNELS: usize>(
    data: &[u8],
    source: Source,
    to: (usize, usize),
    area: Area,
    interpolation: Interpolation,
) -> Vec<u8> {
    let from = source.size;
    if interpolation == Interpolation::Nearest || from == to {
        return pick(data.as_chunks::<CHANNELS>().0, from, to, area).into_flattened();
    }
    let (across, down) = (area.left..area.left + area.width, area.top..area.top + area.height);
    let extent = source.extent.unwrap_or((from.0 as f64, from.1 as f64));
    let taps = |line, to, wanted: Range<usize>| {
        Taps::new(wanted.map(|place| weights(line, to, place, interpolation)))
    };
    let columns = (from.0 != to.0).then(|| taps((from.0, extent.0), to.0, across.clone()));
    let rows = (from.1 != to.1).then(|| taps((from.1, extent.1), to.1, down.clone()));
    let along = |data: &[u8]| match &columns {
        Some(columns) => {
            let mut output = vec![0; data.len() / from.0 * columns.len()];
            resample_along(data, CHANNELS, from.0, columns, &mut output);
            output
        }
        None => crop_lines(data, from.0 * CHANNELS, across.start * CHANNELS..across.end * CHANNELS),
    };
    let Some(rows) = rows else {
        return along(&data[down.start * from.0 * CHANNELS..down.end * from.0 * CHANNELS]);
    };
    let across_lines = |data: &[u8], stride: usize, start: usize| {
        let mut output = vec![0; rows.len() * stride];
        resample_across(data, stride, &rows, start, &mut output);
        output
    };
    if rows_first(from, to) {
        return along(&across_lines(data, from.0 * CHANNELS, 0));
    }
    let lines = rows.source();
    let narrow = along(&data[lines.start * from.0 * CHANNELS..lines.end * from.0 * CHANNELS]);
    across_lines(&narrow, area.width * CHANNELS, lines.start)
}

/// Whether the height is changed before the width: the two orders round differently. Pillow does so since version 13
/// where the height shrinks by more than twice what the width does.
fn rows_first(from: (usize, usize), to: (usize, usize)) -> bool {
    let shrink = |from: usize, to: usize| from as i64 - to as i64;
    let (across, down) = (shrink(from.0, to.0), shrink(from.1, to.1));
    down > 0 && down > 2 * across
}

/// The pixels nearest to those of the result.
pub(super) fn pick<T: Copy>(pixels: &[T], from: (usize, usize), to: (usize, usize), area: Area) -> Vec<T> {
    let columns = nearest(from.0, to.0, area.left..area.left + area.width);
    let mut picked = Vec::with_capacity(area.width * area.height);
    for row in nearest(from.1, to.1, area.top..area.top + area.height) {
        let line = &pixels[row * from.0..(row + 1) * from.0];
        picked.extend(columns.iter().map(|&column| line[column]));
    }
    picked
}

/// For each place in `wanted` of a line of length `to` the place that its middle falls on. The sum is built up step
/// by step, as the reference does: its rounding errors decide ties.
fn nearest(from: usize, to: usize, wanted: Range<usize>) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let mut place = step * 0.5;
    let mut places = Vec::with_capacity(wanted.len());
    for number in 0..wanted.end {
        if number >= wanted.start {
            places.push((place as usize).min(from - 1));
        }
        place += step;
    }
    places
}

/// Resizes 16-bit grey from the size `from` to the size `to`, of which it returns an area.
///
/// In floating point, and where the curve overshoots the range both bytes of a value are clipped on their own: the
/// reference does it so.
pub(super) fn resample_words(
    data: &[u16],
    from: (usize, usize),
    to: (usize, usize),
    area: Area,
    interpolation: Interpolation,
) -> Vec<u16> {
    if interpolation == Interpolation::Nearest || from == to {
        return pick(data, from, to, area);
    }
    let (across, down) = (area.left..area.left + area.width, area.top..area.top + area.height);
    let whole = |length: usize| (length, length as f64);
    let along = |data: &[u16]| {
        if from.0 == to.0 {
            return crop_lines(data, from.0, across.clone());
        }
        let taps: Vec<_> =
            across.clone().map(|place| weights(whole(from.0), to.0, place, interpolation)).collect();
        let lines = data.chunks_exact(from.0);
        lines
            .flat_map(|line| taps.iter().map(|(first, weights)| weigh_words(weights, line[*first..].iter())))
            .collect()
    };
    let resize_across = |data: &[u16], width: usize| -> Vec<u16> {
        let mut output = Vec::with_capacity(width * area.height);
        for (first, weights) in down.clone().map(|place| weights(whole(from.1), to.1, place, interpolation)) {
            let lines = &data[first * width..];
            let weigh = |column| weigh_words(&weights, lines.iter().skip(column).step_by(width));
            output.extend((0..width).map(weigh));
        }
        output
    };
    if from.1 == to.1 {
        along(&data[down.start * from.0..down.end * from.0])
    } else if rows_first(from, to) {
        along(&resize_across(data, from.0))
    } else {
        resize_across(&along(data), area.width)
    }
}

/// A weighted sum of 16-bit values.
fn weigh_words<'a>(weights: &[f64], values: impl Iterator<Item = &'a u16>) -> u16 {
    let sum: f64 = weights.iter().zip(values).map(|(weight, &value)| f64::from(value) * weight).sum();
    let whole = (sum.abs() + 0.5).floor().copysign(sum) as i32;
    let (high, low) = ((whole >> 8).clamp(0, 255), (whole % 256).clamp(0, 255));
    (high << 8 | low) as u16
}

/// The first source place and the weights for one output place, normalised to the sum 1. The source has so many places,
/// and what the result shows of it is so long.
fn weights(
    (from, extent): (usize, f64),
    to: usize,
    place: usize,
    interpolation: Interpolation,
) -> (usize, Vec<f64>) {
    let scale = extent / to as f64;
    let stretch = scale.max(1.0);
    let support = stretch * if interpolation == Interpolation::Bicubic { 2.0 } else { 1.0 };
    let center = (place as f64 + 0.5) * scale;
    let first = (center - support + 0.5).max(0.0) as usize;
    let end = ((center + support + 0.5) as usize).min(from);
    let inverse = 1.0 / stretch;
    let mut weights: Vec<f64> = (0..end.saturating_sub(first))
        .map(|tap| kernel(((tap + first) as f64 - center + 0.5) * inverse, interpolation))
        .collect();
    let sum: f64 = weights.iter().sum();
    if sum != 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    (first, weights)
}

/// The weight at a distance.
fn kernel(distance: f64, interpolation: Interpolation) -> f64 {
    const A: f64 = -0.5;
    match (interpolation, distance.abs()) {
        (Interpolation::Bicubic, x) if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        (Interpolation::Bicubic, x) if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        (Interpolation::Bilinear, x) if x < 1.0 => 1.0 - x,
        _ => 0.0,
    }
}

/// A part of each line.
fn crop_lines<T: Copy>(data: &[T], stride: usize, part: Range<usize>) -> Vec<T> {
    data.chunks_exact(stride).flat_map(|line| &line[part.clone()]).copied().collect()
}
