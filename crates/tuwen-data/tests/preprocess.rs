//! Preprocessing against the reference programs: the golden case `clip-preprocess`.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // helpers of tests

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use tuwen_data::image::{Interpolation, Picture, Resize, RgbImage, Size, ToRgb, Transform};

/// Grey levels that a JPEG may be off where the decoder gives other bytes than the reference's.
const JPEG_TOLERANCE: u8 = 2;

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");

fn case() -> Option<PathBuf> {
    let case = Path::new(SHARED).join("fixtures/clip-preprocess");
    if !case.is_dir() {
        eprintln!("skipped: no {}", case.display());
        return None;
    }
    Some(case)
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn transforms() -> BTreeMap<&'static str, Transform> {
    let squash = |to_rgb| Transform {
        to_rgb,
        resize: Some(Resize::Squash(Size::square(48))),
        center_crop: None,
        ..Transform::openai(48)
    };
    BTreeMap::from([
        ("openai", Transform::openai(56)),
        ("hf_pil", Transform::hugging_face(56)),
        ("blip", squash(ToRgb::First)),
        ("blip_hf_pil", squash(ToRgb::FirstOnWhite)),
    ])
}

/// Planes, as the case stores them.
fn planes(image: &RgbImage) -> Vec<u8> {
    (0..3).flat_map(|channel| image.data.iter().copied().skip(channel).step_by(3)).collect()
}

fn largest_difference(got: &[u8], expected: &[u8]) -> u8 {
    assert_eq!(got.len(), expected.len());
    got.iter().zip(expected).map(|(got, expected)| got.abs_diff(*expected)).max().unwrap()
}

/// The reference's result of a pipeline, which another one may share.
fn expected<'a>(
    tensors: &'a SafeTensors,
    image: &str,
    facts: &serde_json::Value,
    pipeline: &str,
) -> &'a [u8] {
    match facts[pipeline].as_str() {
        Some(text) => expected(tensors, image, facts, text.strip_prefix("equal to ").unwrap()),
        None => {
            assert_eq!(facts[pipeline]["stored"], true);
            tensors.tensor(&format!("{image}.{pipeline}")).unwrap().data()
        }
    }
}

#[test]
fn every_image_comes_out_as_from_the_reference() {
    let Some(case) = case() else { return };
    let bytes = fs::read(case.join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let transforms = transforms();
    let mut wrong = Vec::new();
    for (name, facts) in json(&case.join("expected.json"))["images"].as_object().unwrap() {
        let file = facts["file"].as_str().unwrap();
        let path = match file.strip_prefix("shared/") {
            Some(shared) => Path::new(SHARED).join(shared),
            None => case.join(file),
        };
        let picture = Picture::open(&path).unwrap();
        assert_eq!(picture.mode().name(), facts["mode"], "{name}");
        assert_eq!(serde_json::json!([picture.width(), picture.height()]), facts["size"], "{name}");
        let digest = Sha256::digest(picture.to_rgb().data);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let exact = digest == facts["sha256_rgb"];
        let is_jpeg = file.ends_with(".jpg");
        assert!(exact || is_jpeg, "{name}: the decoded bytes differ");
        for (pipeline, transform) in &transforms {
            let image = transform.apply(&picture);
            let got = planes(&image);
            let limit = if exact { 0 } else { JPEG_TOLERANCE };
            let difference = largest_difference(&got, expected(&tensors, name, facts, pipeline));
            eprintln!("{name} {pipeline}: decoded exactly: {exact}, off by {difference}");
            if difference > limit {
                wrong.push(format!("{name} {pipeline}: off by {difference}"));
            }
            // The torchvision variant of the same processor, within what the reference itself differs by.
            let fast = pipeline.replace("_pil", "_fast");
            if fast != *pipeline {
                let key = format!("max_difference_to_{pipeline}");
                let own = facts[&fast][key.as_str()].as_u64().unwrap_or(0) as u8;
                let difference = largest_difference(&got, expected(&tensors, name, facts, &fast));
                if difference > own + limit {
                    wrong.push(format!("{name} {fast}: off by {difference}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn numbers_come_out_as_from_the_reference() {
    let Some(case) = case() else { return };
    let bytes = fs::read(case.join("expected_float.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let picture = Picture::open(&case.join("images/rgb_landscape.png")).unwrap();
    for (pipeline, transform) in transforms().iter().filter(|(name, _)| !name.starts_with("blip")) {
        let tensor = tensors.tensor(&format!("rgb_landscape.png.{pipeline}.pixel_values")).unwrap();
        let expected = tensor.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        let got = transform.pixel_values(&transform.apply(&picture));
        assert_eq!(tensor.shape().iter().product::<usize>(), got.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() <= 2e-6, "{pipeline}: {got}, expected {expected}");
        }
    }
}

#[test]
fn a_whole_photograph_comes_out_as_from_the_reference() {
    let Some(case) = case() else { return };
    let photograph = Picture::open(&Path::new(SHARED).join("data/photos/coffee.jpg")).unwrap();
    let squash = Transform {
        to_rgb: ToRgb::First,
        resize: Some(Resize::Squash(Size::square(160))),
        center_crop: None,
        ..Transform::openai(160)
    };
    for (file, transform) in [("full224_openai.png", Transform::openai(224)), ("full160_blip.png", squash)] {
        let expected = Picture::open(&case.join(file)).unwrap().into_rgb();
        let difference = largest_difference(&transform.apply(&photograph).data, &expected.data);
        eprintln!("{file}: off by {difference}");
        assert!(difference <= JPEG_TOLERANCE, "{file}: off by {difference}");
    }
}

#[test]
fn orientation_is_read_and_applied_on_demand() {
    let Some(case) = case() else { return };
    let picture = Picture::open(&case.join("images/exif_rotated.jpg")).unwrap();
    assert_eq!((picture.width(), picture.height()), (110, 72));
    assert_eq!(picture.orientation(), tuwen_data::image::Orientation::Rotate90);
    let upright = picture.clone().oriented();
    assert_eq!((upright.width(), upright.height()), (72, 110));
    // The first line is the first column, from bottom to top.
    let (stored, upright) = (picture.into_rgb(), upright.into_rgb());
    for x in 0..72 {
        assert_eq!(upright.data[x * 3..][..3], stored.data[(71 - x) * 110 * 3..][..3]);
    }
}

#[test]
fn only_a_part_can_be_computed() {
    let Some(case) = case() else { return };
    for file in ["rgba.png", "grey16.png", "palette.png", "cmyk.jpg", "grey_alpha.png"] {
        let picture = Picture::open(&case.join("images").join(file)).unwrap();
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic] {
            for (width, height) in [
                (40, 50),
                (picture.width(), 33),
                (150, picture.height()),
                (picture.width(), picture.height()),
            ] {
                let whole = picture.resize(width, height, interpolation).into_rgb();
                let area = tuwen_data::image::Area { left: 7, top: 5, width: 20, height: 11 };
                let part = picture.resize_area(width, height, area, interpolation).into_rgb();
                assert_eq!((part.width, part.height), (20, 11));
                for y in 0..11 {
                    let expected = &whole.data[((y + 5) * width + 7) * 3..][..60];
                    assert_eq!(
                        &part.data[y * 60..][..60],
                        expected,
                        "{file} {interpolation:?} {width} {height}"
                    );
                }
            }
        }
    }
}

/// Grey levels that reduced decoding may be off, in the mean of a picture.
const REDUCED_TOLERANCE: f64 = 1.0;

#[test]
fn reduced_decoding_is_hidden_by_resizing() {
    let photos = Path::new(SHARED).join("data/photos");
    let Ok(entries) = fs::read_dir(&photos) else {
        eprintln!("skipped: no {}", photos.display());
        return;
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    for path in paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "jpg")) {
        let bytes = fs::read(&path).unwrap();
        let exact = Picture::decode(&bytes).unwrap();
        for side in [32, 40, 56, 97] {
            let transform = Transform::openai(side);
            let reduced = Picture::decode_for(&bytes, &transform).unwrap();
            assert_eq!(reduced.full_size(), (exact.width(), exact.height()));
            let shorter = |picture: &Picture| picture.width().min(picture.height());
            assert!(shorter(&reduced) >= shorter(&exact).min(3 * side));
            let (got, expected) = (transform.apply(&reduced).data, transform.apply(&exact).data);
            let sum: u64 = got.iter().zip(&expected).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let mean = sum as f64 / expected.len() as f64;
            assert!(mean < REDUCED_TOLERANCE, "{}, {side} pixels: off by {mean}", path.display());
            // Small pictures are decoded as they are.
            assert!(reduced.width() < exact.width() || got == expected);
        }
    }
}
