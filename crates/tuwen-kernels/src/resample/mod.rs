//! Resizing of images of bytes: weighted sums in fixed point, to the bit as Pillow computes them.
//!
//! Reference: Pillow `src/libImaging/Resample.c`. Along the lines, RGB has a kernel of its own; otherwise several lines are
//! worked on at once, so that the inner loop runs over neighbouring bytes and becomes vector instructions.

#[cfg(target_arch = "x86_64")]
mod rgb;
mod taps;

pub use taps::Taps;
pub(crate) use taps::{LOW_BITS, PRECISION};

/// Lines that are resized along at once.
const LINES: usize = 16;
/// Bytes of a line that are resized across at once.
const COLUMNS: usize = 32;

/// Resizes along lines of `width` pixels of `channels` interleaved bytes each; `output` has a pixel a line for each of
/// the taps.
///
/// # Panics
/// Where a length does not fit.
pub fn resample_along(data: &[u8], channels: usize, width: usize, taps: &Taps, output: &mut [u8]) {
    assert!(taps.source().end <= width, "resample_along: taps beyond {width} pixels");
    let (stride, new_stride) = (width * channels, taps.len() * channels);
    if stride == 0 || new_stride == 0 {
        return;
    }
    assert_eq!(data.len() / stride * new_stride, output.len(), "resample_along: output");
    #[cfg(target_arch = "x86_64")]
    if channels == 3 && crate::isa() >= crate::Isa::Avx2 {
        return rgb::along(data, stride, taps, output);
    }
    along(data, channels, stride, taps, output);
}

/// Resizes across lines of `stride` bytes, of which `data` has those from number `start` on; `output` has a line for
/// each of the taps.
///
/// # Panics
/// Where a length does not fit.
pub fn resample_across(data: &[u8], stride: usize, taps: &Taps, start: usize, output: &mut [u8]) {
    assert_eq!(taps.len() * stride, output.len(), "resample_across: output");
    if stride > 0 {
        across(data, stride, taps, start, output);
    }
}

multiversion! {
    fn along(data: &[u8], channels: usize, stride: usize, taps: &Taps, output: &mut [u8]) {
        let new_stride = taps.len() * channels;
        // Each entry holds the same byte of several lines.
        let mut turned = vec![[0; LINES]; stride];
        for (lines, new_lines) in data.chunks(stride * LINES).zip(output.chunks_mut(new_stride * LINES)) {
            for (number, line) in lines.chunks_exact(stride).enumerate() {
                turned.iter_mut().zip(line).for_each(|(entry, &byte)| entry[number] = byte);
            }
            for (place, (first, weights)) in taps.iter().enumerate() {
                for channel in 0..channels {
                    let source = turned[first * channels + channel..].iter().step_by(channels);
                    let bytes = weigh(weights, source);
                    let column = new_lines.iter_mut().skip(place * channels + channel).step_by(new_stride);
                    column.zip(bytes).for_each(|(output, byte)| *output = byte);
                }
            }
        }
    }

    fn across(data: &[u8], stride: usize, taps: &Taps, start: usize, output: &mut [u8]) {
        let whole = stride / COLUMNS * COLUMNS;
        for ((first, weights), output) in taps.iter().zip(output.chunks_exact_mut(stride)) {
            let lines = &data[(first - start) * stride..(first - start + weights.len()) * stride];
            for (column, output) in (0..whole).step_by(COLUMNS).zip(output.chunks_exact_mut(COLUMNS)) {
                let source = lines.chunks_exact(stride).filter_map(|line| line[column..].first_chunk::<COLUMNS>());
                output.copy_from_slice(&weigh(weights, source));
            }
            for (column, output) in output.iter_mut().enumerate().skip(whole) {
                let source = lines.chunks_exact(stride).filter_map(|line| line[column..].first_chunk::<1>());
                [*output] = weigh(weights, source);
            }
        }
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
