//! Operations of RandAugment against salesforce/BLIP: the golden case `blip-randaugment`.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // helpers of tests

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use tuwen_data::augment::Operation;
use tuwen_data::image::RgbImage;

const CASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures/blip-randaugment");

fn image(tensors: &SafeTensors, name: &str) -> RgbImage {
    let tensor = tensors.tensor(name).unwrap();
    RgbImage { width: tensor.shape()[1], height: tensor.shape()[0], data: tensor.data().to_vec() }
}

/// The operation of a name, the grey levels that it may be off, and whether its input has a black pixel.
fn operation(name: &str) -> Option<(Operation, u8)> {
    Some(match name {
        "AutoContrast" => (Operation::AutoContrast, 0),
        "Brightness" => (Operation::Brightness, 0),
        "Sharpness" => (Operation::Sharpness, 2),
        "Equalize" => (Operation::Equalize, 0),
        "ShearX" => (Operation::ShearX, 2),
        "ShearY" => (Operation::ShearY, 2),
        "TranslateX" => (Operation::TranslateX, 0),
        "TranslateY" => (Operation::TranslateY, 0),
        "Rotate" => (Operation::Rotate, 2),
        // Of no part in BLIP.
        "Color" | "Contrast" | "Posterize" | "Solarize" => return None,
        other => panic!("{other}"),
    })
}

#[test]
fn operations_are_the_references() {
    let path = Path::new(CASE).join("expected.safetensors");
    if !path.is_file() {
        eprintln!("skipped: no {}", path.display());
        return;
    }
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut compared = 0;
    for name in tensors.names() {
        let (picture, rest) = name.split_once('.').unwrap();
        let (kind, argument) = rest.split_once('.').unwrap_or((rest, "0"));
        if kind.starts_with("input") || argument == "pillow" {
            continue;
        }
        let Some((operation, tolerance)) = operation(kind) else { continue };
        let input = if argument == "zero" { "input_zero" } else { "input" };
        let mut got = image(&tensors, &format!("{picture}.{input}"));
        operation.apply(&mut got, argument.parse().unwrap_or(0.0));
        let expected = image(&tensors, name);
        let off = got.data.iter().zip(&expected.data).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(off <= tolerance, "{name}: off by {off}");
        compared += 1;
    }
    assert_eq!(compared, 2 * 18, "all of two pictures");
}
