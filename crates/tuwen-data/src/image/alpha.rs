//! Arithmetic with transparency, with the rounding that Pillow uses.

/// `a * b / 255`, rounded.
pub(super) fn multiply(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// Pixels whose last channel is alpha, with the other channels multiplied by it.
pub(super) fn premultiplied<const CHANNELS: usize>(data: &[u8]) -> Vec<u8> {
    let mut pixels = data.as_chunks::<CHANNELS>().0.to_vec();
    for pixel in &mut pixels {
        if let [colors @ .., alpha] = pixel.as_mut_slice() {
            colors.iter_mut().for_each(|color| *color = multiply(*color, *alpha));
        }
    }
    pixels.into_flattened()
}

/// Undoes [`premultiplied`], as far as rounding allows.
pub(super) fn unpremultiply<const CHANNELS: usize>(data: &mut [u8]) {
    for pixel in data.as_chunks_mut::<CHANNELS>().0 {
        if let [colors @ .., alpha] = pixel.as_mut_slice()
            && *alpha != 0
        {
            let alpha = u32::from(*alpha);
            colors.iter_mut().for_each(|color| *color = (255 * u32::from(*color) / alpha).min(255) as u8);
        }
    }
}
