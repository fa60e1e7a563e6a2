//! Small pictures for reports.

use mozjpeg::{ColorSpace, Compress};

use super::{Interpolation, RgbImage, resize};
use crate::guard::guarded;

impl RgbImage {
    /// The same picture with a longer side of at most `side` pixels.
    #[must_use]
    pub fn thumbnail(&self, side: usize) -> Self {
        let longer = self.width.max(self.height).max(1);
        if longer <= side {
            return self.clone();
        }
        let scaled = |length: usize| (length * side).div_ceil(longer).max(1);
        resize(self, scaled(self.width), scaled(self.height), Interpolation::Bicubic)
    }

    /// A JPEG file of a quality between 1 and 100; none of a picture without pixels or with a side of more than 65535.
    pub fn to_jpeg(&self, quality: f32) -> Option<Vec<u8>> {
        if [self.width, self.height].iter().any(|side| !(1..=65535).contains(side)) {
            return None;
        }
        let encode = || -> std::io::Result<Vec<u8>> {
            let mut compress = Compress::new(ColorSpace::JCS_RGB);
            compress.set_size(self.width, self.height);
            compress.set_quality(quality);
            let mut started = compress.start_compress(Vec::new())?;
            started.write_scanlines(&self.data)?;
            started.finish()
        };
        // The encoder tells of errors by panics.
        guarded(encode).ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Picture;

    #[test]
    fn a_thumbnail_is_a_small_jpeg_file() {
        let data = (0..200 * 50).flat_map(|i| [(i % 200) as u8, 90, 30]).collect();
        let small = RgbImage { width: 200, height: 50, data }.thumbnail(64);
        assert_eq!((small.width, small.height), (64, 16));
        let file = small.to_jpeg(90.0).expect("encoded");
        let again = Picture::decode(&file).expect("decoded").to_rgb();
        let far = again.data.iter().zip(&small.data).map(|(a, b)| a.abs_diff(*b)).max();
        assert!((again.width, again.height) == (64, 16) && far < Some(24), "{far:?}");
        assert!(RgbImage { width: 0, height: 5, data: Vec::new() }.to_jpeg(90.0).is_none());
    }
}
