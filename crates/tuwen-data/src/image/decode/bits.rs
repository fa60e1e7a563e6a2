//! Samples of less than a byte.

/// Takes lines of packed samples of 1, 2, 4 or 8 bits apart, the first sample in the highest bits.
///
/// `data` holds lines of `stride` bytes; `width` samples of each are returned.
pub(super) fn unpack(data: &[u8], stride: usize, width: usize, bits: usize) -> Vec<u8> {
    let per_byte = 8 / bits;
    let mask = u8::MAX >> (8 - bits);
    let mut samples = Vec::with_capacity(data.len() / stride * width);
    for line in data.chunks_exact(stride) {
        if bits == 8 {
            samples.extend_from_slice(&line[..width]);
        } else {
            samples.extend((0..width).map(|place| {
                let shift = 8 - bits * (place % per_byte + 1);
                line[place / per_byte] >> shift & mask
            }));
        }
    }
    samples
}

/// Spreads grey samples of some bits over 0 to 255.
pub(super) fn spread(samples: &mut [u8], bits: usize) {
    let factor = u8::MAX / (u8::MAX >> (8 - bits));
    samples.iter_mut().for_each(|sample| *sample *= factor);
}
