//! Changes of each channel by a table of its values.

use crate::image::RgbImage;

/// Values of a byte.
const VALUES: usize = 256;

/// Replaces the values of each channel by the table that its counts give; `None` leaves it as it is.
fn by_table(image: &mut RgbImage, table: impl Fn(&[u32; VALUES]) -> Option<[u8; VALUES]>) {
    for channel in 0..3 {
        let mut counts = [0; VALUES];
        image.data.iter().skip(channel).step_by(3).for_each(|&value| counts[usize::from(value)] += 1);
        if let Some(table) = table(&counts) {
            image
                .data
                .iter_mut()
                .skip(channel)
                .step_by(3)
                .for_each(|value| *value = table[usize::from(*value)]);
        }
    }
}

/// Multiplies all values; what is above 255 becomes 255, fractions are cut off.
pub(super) fn brighten(image: &mut RgbImage, factor: f32) {
    by_table(image, |_| Some(std::array::from_fn(|value| (value as f32 * factor) as u8)));
}

/// Stretches each channel from 0 to 255. In the reference the negative of the least value is one of eight bits and wraps: a
/// channel whose least value is above 0 becomes 255 everywhere.
pub(super) fn auto_contrast(image: &mut RgbImage) {
    by_table(image, |counts| {
        let low = counts.iter().position(|&count| count > 0)?;
        let high = counts.iter().rposition(|&count| count > 0)?;
        if high <= low {
            return None;
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = if low == 0 { 0.0 } else { (VALUES - low) as f64 * scale };
        Some(std::array::from_fn(|value| (value as f64 * scale + offset) as u8))
    });
}

/// Makes all values of each channel equally frequent, as Pillow does.
pub(super) fn equalize(image: &mut RgbImage) {
    by_table(image, |counts| {
        let all: u32 = counts.iter().sum();
        let greatest = counts.iter().rev().find(|&&count| count > 0)?;
        let step = (all - greatest) / 255;
        if step == 0 {
            return None;
        }
        let mut below = step / 2;
        Some(std::array::from_fn(|value| {
            let place = (below / step).min(255) as u8;
            below += counts[value];
            place
        }))
    });
}
