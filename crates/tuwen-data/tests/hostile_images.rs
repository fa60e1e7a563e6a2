//! Image files that are cut off, damaged, made to do harm, or no images at all.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::io::{Cursor, Write as _};
use std::path::Path;

use proptest::prelude::*;
use tuwen_data::image::{Format, ImageError, Mode, Picture, Transform};

/// 19 x 13 pixels, baseline, chroma at half the resolution.
const BASELINE: &str = "\
    ffd8ffe000104a46494600010100000100010000ffdb004300140e0f120f0d14121012171514181e32211e1c1c1e3d2c2e24
    3249404c4b47404645505a736250556d5645466488656d777b8182814e608d978c7d96737e817cffdb0043011517171e1a1e
    3b21213b7c5346537c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c7c
    7c7c7c7c7c7c7c7cffc0001108000d001303012200021101031101ffc4001700010101010000000000000000000000000500
    0406ffc4001c1000020202030000000000000000000000000401030261112131ffc400170100030100000000000000000000
    00000001030405ffc400191100030101010000000000000000000000000104021213ffda000c03010002110311003f000294
    b46ea51d08d0be02342f811e77d826a983c21d7847490b61c410ef335d56cfffd9";

/// The same, progressive.
const PROGRESSIVE: &str = "\
    ffd8ffe000104a46494600010100000100010000ffdb0043001b12141714111b1716171e1c1b2028422b28252528513a3d30
    42605565645f555d5b6a7899816a7190735b5d85b586909ea3abadab6780bcc9baa6c799a8aba4ffdb0043011c1e1e282328
    4e2b2b4ea46e5d6ea4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4
    a4a4a4a4a4a4a4a4ffc2001108000d001303012200021101031101ffc4001600010101000000000000000000000000000304
    00ffc40017010003010000000000000000000000000001020304ffda000c030100021003100000018d5da426d766d3ffc400
    1810010101010100000000000000000000000001021112ffda0008010100010502994cbca448e3ffc4001711010003000000
    0000000000000000000000020313ffda0008010301013f01858d1fffc4001611000300000000000000000000000000000001
    11ffda0008010201013f014e90ffc40014100100000000000000000000000000000020ffda0008010100063f025fffc40017
    100101010100000000000000000000000000011011ffda0008010100013f21d5c5172fffda000c03010002000300000010cf
    3fffc400161101010100000000000000000000000000000111ffda0008010301013f10b36fffc40014110100000000000000
    000000000000000010ffda0008010201013f1007ffc4001a100002020300000000000000000000000000011061112131ffda
    0008010100013f10a0a45af264588fffd9";

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
}

const SIZE: (u32, u32) = (19, 13);

fn pixels(channels: u32) -> Vec<u8> {
    (0..SIZE.0 * SIZE.1 * channels)
        .map(|place| (place.wrapping_mul(2_654_435_761) >> 21) as u8 & 63)
        .collect()
}

fn png(color: png::ColorType, channels: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIZE.0, SIZE.1);
    encoder.set_color(color);
    if color == png::ColorType::Indexed {
        encoder.set_palette((0..=255).collect::<Vec<u8>>());
        encoder.set_trns((0..40).collect::<Vec<u8>>());
    }
    encoder.write_header().unwrap().write_image_data(&pixels(channels)).unwrap();
    file
}

fn gif() -> Vec<u8> {
    let mut file = Vec::new();
    let palette: Vec<u8> = (0..192).map(|value| value ^ 90).collect();
    let mut encoder = gif::Encoder::new(&mut file, 25, 16, &palette).unwrap();
    let mut frame = gif::Frame { left: 3, top: 2, transparent: Some(5), ..gif::Frame::default() };
    (frame.width, frame.height, frame.buffer) = (19, 13, pixels(1).into());
    encoder.write_frame(&frame).unwrap();
    drop(encoder);
    file
}

fn webp() -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = image_webp::WebPEncoder::new(&mut file);
    encoder.encode(&pixels(4), SIZE.0, SIZE.1, image_webp::ColorType::Rgba8).unwrap();
    file
}

fn tiff() -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let encoder = tiff::encoder::TiffEncoder::new(&mut file).unwrap();
    let mut encoder = encoder.with_compression(tiff::encoder::Compression::Lzw);
    encoder.write_image::<tiff::encoder::colortype::RGB8>(SIZE.0, SIZE.1, &pixels(3)).unwrap();
    file.into_inner()
}

/// 8-bit palette, raw or in run lengths.
fn bmp(run_lengths: bool) -> Vec<u8> {
    let palette: Vec<u8> = (0..64u8).flat_map(|value| [value, value ^ 33, value / 2, 0]).collect();
    let data: Vec<u8> = pixels(1)
        .chunks(19)
        .flat_map(|line| {
            let mut data = if run_lengths { vec![0, 19] } else { Vec::new() };
            data.extend(line.iter().chain(&[0]));
            if run_lengths {
                data.extend([0, 0]);
            }
            data
        })
        .collect();
    let mut file = b"BM".to_vec();
    let offset = 54 + palette.len() as u32;
    for number in [
        offset + data.len() as u32,
        0,
        offset,
        40,
        19,
        13,
        1 | 8 << 16,
        u32::from(run_lengths),
        0,
        0,
        0,
        64,
        0,
    ] {
        file.extend(number.to_le_bytes());
    }
    file.extend(palette);
    file.extend(data);
    file
}

/// A file of each kind, with what it is.
fn samples() -> Vec<(&'static str, Vec<u8>, Mode)> {
    vec![
        ("baseline JPEG", from_hex(BASELINE), Mode::Rgb),
        ("progressive JPEG", from_hex(PROGRESSIVE), Mode::Rgb),
        ("RGB PNG", png(png::ColorType::Rgb, 3), Mode::Rgb),
        ("palette PNG", png(png::ColorType::Indexed, 1), Mode::Palette),
        ("GIF", gif(), Mode::Palette),
        ("WebP", webp(), Mode::Rgba),
        ("TIFF", tiff(), Mode::Rgb),
        ("BMP", bmp(false), Mode::Palette),
        ("BMP in run lengths", bmp(true), Mode::Palette),
    ]
}

/// Decodes and does all that is done with images; what matters is that it returns.
fn use_bytes(bytes: &[u8]) {
    match Picture::decode_within(bytes, 1 << 20) {
        Ok(picture) => {
            let picture = picture.oriented();
            for transform in [Transform::openai(8), Transform::hugging_face(8)] {
                assert_eq!(transform.pixel_values(&transform.apply(&picture)).len(), 3 * 8 * 8);
            }
        }
        Err(error) => assert!(!error.to_string().contains("panicked"), "{error}"),
    }
}

#[test]
fn the_samples_are_images() {
    for (name, file, mode) in samples() {
        let picture = Picture::decode(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(picture.mode(), mode, "{name}");
        let size = if name == "GIF" { (25, 16) } else { (19, 13) };
        assert_eq!((picture.width(), picture.height()), size, "{name}");
    }
    assert_eq!(Picture::decode(&bmp(false)).unwrap(), Picture::decode(&bmp(true)).unwrap());
}

#[test]
fn cut_off_files_are_errors() {
    for (name, file, _) in samples() {
        // What follows the pixels of these may be missing.
        let needed = match name {
            "RGB PNG" | "palette PNG" => file.len() - 16,
            "GIF" => file.len() - 4,
            "BMP in run lengths" => file.len() - 2,
            _ => file.len(),
        };
        for length in 0..needed {
            match Picture::decode(&file[..length]) {
                Ok(_) => panic!("{name} of {} bytes cut to {length} is accepted", file.len()),
                Err(error) => {
                    assert!(!error.to_string().contains("panicked"), "{name} cut to {length}: {error}")
                }
            }
        }
    }
}

#[test]
fn headers_that_lie_cost_nothing() {
    let mut file = png(png::ColorType::Rgb, 3);
    let claim = |file: &mut Vec<u8>, width: u32, height: u32| {
        file[16..20].copy_from_slice(&width.to_be_bytes());
        file[20..24].copy_from_slice(&height.to_be_bytes());
        let mut checksum = flate2::Crc::new();
        checksum.update(&file[12..29]);
        file[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
    };
    claim(&mut file, 60_000, 60_000);
    match Picture::decode(&file) {
        Err(ImageError::TooLarge { format: Format::Png, width: 60_000, height: 60_000, .. }) => {}
        other => panic!("{other:?}"),
    }
    claim(&mut file, 13_000, 13_000);
    assert!(matches!(Picture::decode(&file), Err(ImageError::Truncated { format: Format::Png, .. })));
    claim(&mut file, 0, 5);
    assert!(Picture::decode(&file).is_err());

    let mut file = from_hex(BASELINE);
    let frame = file.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    file[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    assert!(matches!(Picture::decode(&file), Err(ImageError::TooLarge { format: Format::Jpeg, .. })));
    file[frame + 5..frame + 9].copy_from_slice(&[0x20, 0, 0x20, 0]);
    assert!(matches!(Picture::decode(&file), Err(ImageError::Truncated { format: Format::Jpeg, .. })));

    let mut file = bmp(false);
    file[18..26].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f]);
    assert!(matches!(Picture::decode(&file), Err(ImageError::TooLarge { format: Format::Bmp, .. })));
    file[18..26].copy_from_slice(&[0, 0x20, 0, 0, 0, 0x20, 0, 0]);
    assert!(matches!(Picture::decode(&file), Err(ImageError::Truncated { format: Format::Bmp, .. })));

    let mut file = gif();
    file[6..10].copy_from_slice(&[0xff; 4]);
    assert!(matches!(Picture::decode(&file), Err(ImageError::TooLarge { format: Format::Gif, .. })));

    assert!(matches!(Picture::decode_within(&webp(), 19 * 13 - 1), Err(ImageError::TooLarge { .. })));
    assert!(Picture::decode_within(&webp(), 19 * 13).is_ok());
}

#[test]
fn what_is_no_image_is_described() {
    let message = |bytes: &[u8]| Picture::decode(bytes).unwrap_err().to_string();
    assert_eq!(message(b""), "the file is empty");
    assert!(message(b"<html><body>").contains("text that begins with \"<html><body>\""));
    assert!(message(b"version https://git-lfs.github.com/spec/v1").contains("Git LFS"));
    assert!(message(b"\0\0\0\x1cftypavif").contains("AVIF"));
    assert!(message(b"%PDF-1.7").contains("PDF"));
    assert!(message(&[0; 64]).contains("zeros"));
    assert!(message(&[1, 2, 3]).contains("01 02 03"));
    assert!(message("图文".as_bytes()).contains("图文"));
}

#[test]
#[cfg(unix)]
fn files_without_end_are_not_read() {
    let message = Picture::open(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(
        message.starts_with("/dev/zero: not a JPEG") && message.ends_with("nothing but zeros"),
        "{message}"
    );
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("sparse.png");
    std::fs::write(&path, &png(png::ColorType::Rgb, 3)[..40]).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    let message = Picture::open(&path).unwrap_err().to_string();
    assert!(message.contains("sparse.png: more than"), "{message}");
}

#[test]
fn files_are_known_by_content_and_errors_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo.jpg");
    std::fs::File::create(&path).unwrap().write_all(&png(png::ColorType::Rgb, 3)).unwrap();
    assert_eq!(Picture::open(&path).unwrap().mode(), Mode::Rgb);
    for (name, content) in [("text.png", Some("some text")), ("empty.png", Some("")), ("none.png", None)] {
        let path = folder.path().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let message = Picture::open(&path).unwrap_err().to_string();
        assert!(message.starts_with(&path.display().to_string()), "{message}");
    }
    assert!(Picture::open(Path::new("/")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        use_bytes(&bytes);
        // Behind each kind's first bytes as well.
        for (_, file, _) in samples() {
            use_bytes(&[&file[..16], &bytes].concat());
        }
    }

    #[test]
    fn damaged_files_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for (_, mut file, _) in samples() {
            for (place, value) in &damage {
                let place = place.index(file.len());
                file[place] = *value;
            }
            if let Some(cut) = cut {
                file.truncate(cut.index(file.len()));
            }
            use_bytes(&file);
        }
    }
}
