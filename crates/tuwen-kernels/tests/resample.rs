//! Resizing against its definition, on every instruction set.

mod common;

use common::{for_each_isa, noise};
use tuwen_kernels::{Taps, reference, resample_across, resample_along};

/// Bytes with many at both ends of their range, where sums overshoot.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    noise(len, seed).iter().map(|value| (128.0 + 200.0 * value) as u8).collect()
}

/// `places` runs of up to `longest` places of a line of `width`, with weights that sum to 1, some of them negative.
fn taps(places: usize, width: usize, longest: usize) -> Taps {
    Taps::new((0..places).map(|place| {
        let count = (1 + (place * 7) % longest).min(width);
        let first = (place * 31) % (width - count + 1);
        let mut weights: Vec<f64> = noise(count, place as u64).iter().map(|v| f64::from(*v) + 0.6).collect();
        let sum: f64 = weights.iter().sum();
        if sum.abs() > 0.5 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        (first, weights)
    }))
}

/// Width, height, places of the result, longest run.
const SIZES: [(usize, usize, usize, usize); 8] = [
    (1, 1, 1, 1),
    (3, 2, 5, 3),
    (5, 4, 1, 5),
    (7, 5, 9, 4),
    (33, 17, 12, 9),
    (64, 3, 224, 5),
    (301, 37, 65, 54),
    (40, 0, 8, 8),
];

#[test]
fn along_the_lines() {
    for_each_isa(|isa| {
        for (width, height, places, longest) in SIZES {
            let taps = taps(places, width, longest);
            for channels in 1..=4 {
                let data = bytes(width * height * channels, 1);
                let mut got = vec![7; height * places * channels];
                resample_along(&data, channels, width, &taps, &mut got);
                let expected = reference::resample_along(&data, channels, width, &taps);
                assert_eq!(got, expected, "{isa:?} {width} x {height} to {places}, {channels} channels");
            }
        }
    });
}

#[test]
fn across_the_lines() {
    for_each_isa(|isa| {
        for (height, stride, places, longest) in SIZES {
            let taps = taps(places, height, longest);
            let source = taps.source();
            let data = bytes(height * stride, 2);
            let mut got = vec![7; places * stride];
            resample_across(&data[source.start * stride..], stride, &taps, source.start, &mut got);
            let expected = reference::resample_across(&data, stride, &taps);
            assert_eq!(got, expected, "{isa:?} {height} lines of {stride} to {places}");
        }
    });
}
