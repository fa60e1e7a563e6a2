//! Pictures to PNG files.

use super::RgbImage;

impl RgbImage {
    /// A PNG file; none of a picture without pixels, or with sides beyond the format.
    pub fn to_png(&self) -> Option<Vec<u8>> {
        let side = |side: usize| u32::try_from(side).ok().filter(|&side| side > 0 && side <= i32::MAX as u32);
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, side(self.width)?, side(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().ok()?.write_image_data(&self.data).ok()?;
        Some(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Picture;

    #[test]
    fn what_is_written_is_read() {
        let image = RgbImage { width: 5, height: 3, data: (0..45).collect() };
        let file = image.to_png().expect("encoded");
        assert_eq!(Picture::decode(&file).expect("decoded").to_rgb(), image);
        assert!(RgbImage { width: 0, height: 3, data: Vec::new() }.to_png().is_none());
    }
}
