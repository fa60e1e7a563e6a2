//! What each place of a resized line takes from the line.

use std::ops::Range;

/// Fractional bits of a weight.
pub(crate) const PRECISION: u32 = 22;
/// Fractional bits that the lower part of a weight holds; see [`Taps`].
pub(crate) const LOW_BITS: u32 = 11;

/// For each place of a resized line a run of places of the source and their weights in fixed point.
///
/// A weight of 23 bits is split into `high * 2^11 + low`, since the product of a byte and 16 bits is one instruction on
/// every processor and that with 32 bits is not.
#[derive(Clone, Debug, Default)]
pub struct Taps {
    /// First place of the source, and where its weights begin.
    firsts: Vec<(usize, usize)>,
    weights: Vec<[i16; 2]>,
}

impl Taps {
    /// Of the first source place of each place and the weights from there on, which sum to 1; they are rounded as in
    /// Pillow, halves away from 0.
    pub fn new(taps: impl Iterator<Item = (usize, Vec<f64>)>) -> Self {
        let mut all = Self::default();
        for (first, weights) in taps {
            all.firsts.push((first, all.weights.len()));
            all.weights.extend(weights.into_iter().map(|weight| {
                let fixed = (weight * f64::from(1 << PRECISION) + 0.5f64.copysign(weight)) as i32;
                [(fixed >> LOW_BITS) as i16, (fixed & ((1 << LOW_BITS) - 1)) as i16]
            }));
        }
        all
    }

    /// Places of the resized line.
    pub fn len(&self) -> usize {
        self.firsts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.firsts.is_empty()
    }

    /// Each place: its first source place and the weights from there on, in two parts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &[[i16; 2]])> {
        let ends = self.firsts.iter().skip(1).map(|(_, start)| *start).chain([self.weights.len()]);
        self.firsts.iter().zip(ends).map(|(&(first, start), end)| (first, &self.weights[start..end]))
    }

    /// All source places that are needed.
    pub fn source(&self) -> Range<usize> {
        let start = self.iter().map(|(first, _)| first).min().unwrap_or(0);
        let end = self.iter().map(|(first, weights)| first + weights.len()).max().unwrap_or(0);
        start..end.max(start)
    }
}
