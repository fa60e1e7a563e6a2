//! An image of any format through decoding, orientation, conversion, every preparation and augmentation.
#![no_main]

use std::panic;

use libfuzzer_sys::fuzz_target;
use tuwen_data::image::{Interpolation, Middle, Picture, Resize, Size, ToRgb, Transform};
use tuwen_fuzz::say;

/// More would only be slow; the limit itself has its own tests.
const MOST_PIXELS: u64 = 1 << 20;

fuzz_target!(
    init: forgive_decoders(),
    |data: &[u8]| match Picture::decode_within(data, MOST_PIXELS) {
        Ok(picture) => use_it(&picture, data.last().copied().unwrap_or(0)),
        Err(error) => say(&error),
    }
);

/// The decoders are other people's; a panic of one is caught where it is called, so it is no finding. One of ours is.
fn forgive_decoders() {
    let abort = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let file = info.location().map_or("", |location| location.file());
        if !file.contains("/registry/") {
            abort(info);
        }
    }));
}

fn use_it(picture: &Picture, choice: u8) {
    let rgb = picture.to_rgb();
    assert_eq!(rgb.data.len(), 3 * rgb.width * rgb.height);
    assert!(rgb.width as u64 * rgb.height as u64 <= MOST_PIXELS);
    assert_eq!(picture.to_rgb_on_white().data.len(), rgb.data.len());
    let upright = picture.clone().oriented();
    assert_eq!(upright.width() * upright.height(), rgb.width * rgb.height);
    let size = 1 + usize::from(choice % 32);
    let mut transform = Transform::openai(size);
    transform.interpolation = [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic]
        [usize::from(choice / 32 % 3)];
    for to_rgb in [ToRgb::First, ToRgb::FirstOnWhite, ToRgb::Last] {
        for middle in [Middle::Floor, Middle::HalfToEven] {
            for resize in [
                None,
                Some(Resize::ShortestEdge(size)),
                Some(Resize::LongestEdge(Size::square(size))),
                Some(Resize::Squash(Size::square(size))),
            ] {
                (transform.to_rgb, transform.middle, transform.resize) = (to_rgb, middle, resize);
                let image = transform.apply(&upright);
                assert_eq!((image.width, image.height), (size, size));
                assert_eq!(transform.pixel_values(&image).len(), 3 * size * size);
            }
        }
    }
}
