//! Resizing as Pillow does it, to the bit: two passes in fixed point with bytes in between.
//!
//! Reference: Pillow `src/libImaging/Resample.c` and `Geometry.c`. A pass works on several lines at once, so that its
//! inner loop runs over neighbouring bytes and becomes vector instructions.

use std::ops::Range;

use serde::{Deserialize, Serialize};

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

/// Fractional bits of a weight.
const PRECISION: u32 = 22;

/// Fractional bits that the lower part of a weight holds; see [`Taps`].
const LOW_BITS: u32 = 11;

/// Lines that are resized along at once.
const LINES: usize = 16;

/// Bytes of a line that are resized across at once.
const COLUMNS: usize = 32;

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
    let taps = |line, to, wanted| Taps::new(line, to, wanted, interpolation);
    let columns = (from.0 != to.0).then(|| taps((from.0, extent.0), to.0, across.clone()));
    let rows = (from.1 != to.1).then(|| taps((from.1, extent.1), to.1, down.clone()));
    let along = |data: &[u8]| match &columns {
        Some(columns) => resize_along::<CHANNELS>(data, from.0, columns),
        None => crop_lines(data, from.0 * CHANNELS, across.start * CHANNELS..across.end * CHANNELS),
    };
    let Some(rows) = rows else {
        return along(&data[down.start * from.0 * CHANNELS..down.end * from.0 * CHANNELS]);
    };
    if rows_first(from, to) {
        return along(&resize_across(data, from.0 * CHANNELS, &rows, 0));
    }
    let lines = rows.source();
    let narrow = along(&data[lines.start * from.0 * CHANNELS..lines.end * from.0 * CHANNELS]);
    resize_across(&narrow, area.width * CHANNELS, &rows, lines.start)
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

/// What an output place takes from a line: a run of places and their weights.
///
/// A weight of 23 bits is split into `high * 2^11 + low`, since the product of a byte and 16 bits is one instruction on
/// every processor and that with 32 bits is not.
struct Taps {
    /// First place of the source and where its weights begin; one more entry ends the list.
    firsts: Vec<(usize, usize)>,
    weights: Vec<[i16; 2]>,
}

impl Taps {
    fn new(from: (usize, f64), to: usize, wanted: Range<usize>, interpolation: Interpolation) -> Self {
        let mut taps = Self { firsts: Vec::with_capacity(wanted.len() + 1), weights: Vec::new() };
        for place in wanted {
            let (first, weights) = weights(from, to, place, interpolation);
            taps.firsts.push((first, taps.weights.len()));
            taps.weights.extend(weights.into_iter().map(|weight| {
                let fixed = (weight * f64::from(1 << PRECISION) + 0.5f64.copysign(weight)) as i32;
                [(fixed >> LOW_BITS) as i16, (fixed & ((1 << LOW_BITS) - 1)) as i16]
            }));
        }
        taps.firsts.push((from.0, taps.weights.len()));
        taps
    }

    /// Each output place: its first source place and the weights from there on.
    fn iter(&self) -> impl Iterator<Item = (usize, &[[i16; 2]])> {
        self.firsts.windows(2).map(|pair| (pair[0].0, &self.weights[pair[0].1..pair[1].1]))
    }

    /// All source places that are needed.
    fn source(&self) -> Range<usize> {
        let start = self.iter().map(|(first, _)| first).min().unwrap_or(0);
        let end = self.iter().map(|(first, weights)| first + weights.len()).max().unwrap_or(0);
        start..end.max(start)
    }
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

/// `N` weighted sums at once: of the bytes that `source` has for each tap.
#[inline(always)]
fn weigh<'a, const N: usize>(weights: &[[i16; 2]], source: impl Iterator<Item = &'a [u8; N]>) -> [u8; N] {
    let (mut high, mut low) = ([0i32; N], [0i32; N]);
    for (&[weight_high, weight_low], bytes) in weights.iter().zip(source) {
        for lane in 0..N {
            let byte = i32::from(bytes[lane]);
            high[lane] = high[lane].wrapping_add(byte * i32::from(weight_high));
            low[lane] = low[lane].wrapping_add(byte * i32::from(weight_low));
        }
    }
    // The total fits 32 bits; where a part does not, the excess cancels.
    std::array::from_fn(|lane| {
        let sum = (high[lane] << LOW_BITS).wrapping_add(low[lane]).wrapping_add(1 << (PRECISION - 1));
        (sum >> PRECISION).clamp(0, 255) as u8
    })
}

/// Resizes along the lines.
fn resize_along<const CHANNELS: usize>(data: &[u8], width: usize, columns: &Taps) -> Vec<u8> {
    let (stride, new_stride) = (width * CHANNELS, (columns.firsts.len() - 1) * CHANNELS);
    let mut output = vec![0; data.len() / stride * new_stride];
    // Each entry holds the same byte of several lines.
    let mut turned = vec![[0; LINES]; stride];
    for (lines, new_lines) in data.chunks(stride * LINES).zip(output.chunks_mut(new_stride * LINES)) {
        for (number, line) in lines.chunks_exact(stride).enumerate() {
            turned.iter_mut().zip(line).for_each(|(entry, &byte)| entry[number] = byte);
        }
        for (place, (first, weights)) in columns.iter().enumerate() {
            for channel in 0..CHANNELS {
                let source = turned[first * CHANNELS + channel..].iter().step_by(CHANNELS);
                let bytes = weigh(weights, source);
                let column = new_lines.iter_mut().skip(place * CHANNELS + channel).step_by(new_stride);
                column.zip(bytes).for_each(|(output, byte)| *output = byte);
            }
        }
    }
    output
}

/// Resizes across the lines; `data` begins with line `start`.
fn resize_across(data: &[u8], stride: usize, rows: &Taps, start: usize) -> Vec<u8> {
    let mut output = Vec::with_capacity((rows.firsts.len() - 1) * stride);
    for (first, weights) in rows.iter() {
        let lines = &data[(first - start) * stride..(first - start + weights.len()) * stride];
        let whole = stride / COLUMNS * COLUMNS;
        for column in (0..whole).step_by(COLUMNS) {
            let source =
                lines.chunks_exact(stride).filter_map(|line| line[column..].first_chunk::<COLUMNS>());
            output.extend(weigh(weights, source));
        }
        for column in whole..stride {
            let source = lines.chunks_exact(stride).filter_map(|line| line[column..].first_chunk::<1>());
            output.extend(weigh(weights, source));
        }
    }
    output
}

/// A part of each line.
fn crop_lines<T: Copy>(data: &[T], stride: usize, part: Range<usize>) -> Vec<T> {
    data.chunks_exact(stride).flat_map(|line| &line[part.clone()]).copied().collect()
}
