//! Preparation of images: bytes after resizing and cropping as several programs give them, and the numbers made of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tuwen::Picture;
use tuwen_data::image::{Resize, RgbImage, Size, ToRgb, Transform};
use tuwen_tensor::checkpoint::{Checkpoint, DType, RawTensor, TensorSource};

use super::case::Case;
use super::report::{Report, Tolerance};

/// Grey levels by which decoders of JPEG differ.
const JPEG_DIFFERENCE: f64 = 2.0;

#[derive(Deserialize)]
struct Config {
    clip_size: usize,
    blip_size: usize,
    /// By the name of the image.
    images: BTreeMap<String, Image>,
}

#[derive(Deserialize)]
struct Image {
    /// In the case, or below a folder around it.
    file: String,
    /// Digest of the decoded bytes.
    sha256_rgb: String,
    /// What is recorded for each program, and how its result relates to others.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// The programs in an order in which each refers to earlier ones only.
const PIPELINES: [&str; 6] = ["openai", "hf_pil", "hf_fast", "blip", "blip_hf_pil", "blip_hf_fast"];

/// Whether a case is about preparing images.
pub fn fits(case: &Case) -> Result<bool> {
    Ok(case.has("images")
        && case.has("expected.json")
        && case.json("expected.json")?.get("clip_size").is_some())
}

/// Prepares and compares.
pub fn run(case: &Case) -> Result<Report> {
    let path = case.path("expected.json");
    let config: Config =
        serde_json::from_value(case.json("expected.json")?).with_context(|| path.display().to_string())?;
    let expected = Recorded {
        bytes: case.tensors("expected.safetensors")?,
        floats: case.tensors("expected_float.safetensors")?,
    };
    let mut left: Vec<String> = expected.bytes.names();
    left.extend(expected.floats.names());
    let mut report = Report::default();
    for (name, image) in &config.images {
        let path = find(case, &image.file)?;
        let picture = Picture::open(&path)?;
        let decoding = image.decoding(&picture);
        for pipeline in PIPELINES {
            let Some(relation) = image.others.get(pipeline) else { continue };
            let transform = transform(pipeline, &config);
            let bytes = transform.apply(&picture);
            let levels = decoding + kernel_difference(relation);
            // What equals the result of another program is recorded there.
            let source =
                image.source(pipeline).with_context(|| format!("{name}: {pipeline} refers to nothing"))?;
            let label = format!("{name}.{pipeline}");
            let recorded = expected.bytes.read(&format!("{name}.{source}"))?;
            report.compare(&label, planes(&bytes), &recorded, Tolerance::abs(levels));
            let label = format!("{label}.pixel_values");
            if expected.floats.info(&label).is_some() {
                let per_level =
                    transform.rescale_factor / transform.std.iter().copied().fold(f32::MAX, f32::min) as f64;
                let tolerance = Tolerance::abs(case.tolerance_of("float")? + levels * per_level);
                let shape = [3, bytes.height, bytes.width];
                let got = RawTensor::from_f32(&shape, &transform.pixel_values(&bytes));
                report.compare(&label, got, &expected.floats.read(&label)?, tolerance);
            }
        }
    }
    let done: Vec<&str> = report.rows.iter().map(|row| row.tensor.as_str()).collect();
    left.retain(|name| !done.contains(&name.as_str()));
    for name in left {
        report.fail(&name, Tolerance::EXACT, "not computed");
    }
    full_size(case, &config, &mut report)?;
    Ok(report)
}

struct Recorded {
    bytes: Checkpoint,
    floats: Checkpoint,
}

impl Image {
    /// Grey levels that may differ because of the decoder: none unless it gave other bytes than the reference's, which
    /// the standard allows for JPEG only.
    fn decoding(&self, picture: &Picture) -> f64 {
        let digest = Sha256::digest(picture.to_rgb().data);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let jpeg = [".jpg", ".jpeg"].iter().any(|end| self.file.ends_with(end));
        if jpeg && digest != self.sha256_rgb { JPEG_DIFFERENCE } else { 0.0 }
    }

    /// Under which program's name the result of a program is recorded.
    fn source<'p>(&'p self, pipeline: &'p str) -> Option<&'p str> {
        let mut source = pipeline;
        // Each step refers to an earlier program, so there are no more steps than programs.
        for _ in PIPELINES {
            match self.others.get(source)? {
                Value::String(relation) => source = relation.strip_prefix("equal to ")?,
                _ => return Some(source),
            }
        }
        None
    }
}

/// What a program does, in our terms.
fn transform(pipeline: &str, config: &Config) -> Transform {
    let blip = |to_rgb| Transform {
        to_rgb,
        resize: Some(Resize::Squash(Size::square(config.blip_size))),
        center_crop: None,
        ..Transform::openai(config.blip_size)
    };
    match pipeline {
        "openai" => Transform::openai(config.clip_size),
        "blip" => blip(ToRgb::First),
        name if name.starts_with("blip") => blip(ToRgb::FirstOnWhite),
        _ => Transform::hugging_face(config.clip_size),
    }
}

/// Grey levels noted between torchvision's kernel and Pillow's, of which ours is the latter.
fn kernel_difference(relation: &Value) -> f64 {
    let names = ["max_difference_to_hf_pil", "max_difference_to_blip_hf_pil"];
    names.iter().find_map(|name| relation.get(name)?.as_f64()).unwrap_or(0.0)
}

/// A photo at full size, recorded as an image.
fn full_size(case: &Case, config: &Config, report: &mut Report) -> Result<()> {
    for (file, pipeline) in [("full224_openai.png", "openai"), ("full160_blip.png", "blip")] {
        if !case.has(file) {
            continue;
        }
        let recorded = Picture::open(&case.path(file))?.to_rgb();
        // "coffee.jpg: OpenAI transform at 224, before scaling to [0,1]"
        let note = case.meta.get("files").and_then(|files| files.get(file)?.as_str()).unwrap_or_default();
        let photo = note.split(':').next().unwrap_or_default();
        let image = config.images.values().find(|image| image.file.ends_with(&format!("/{photo}")));
        let Some(image) = image else { bail!("{file}: meta.json does not say of which photo it is") };
        let sizes = Config { clip_size: recorded.width, blip_size: recorded.width, images: BTreeMap::new() };
        let picture = Picture::open(&find(case, &image.file)?)?;
        let got = transform(pipeline, &sizes).apply(&picture);
        report.compare(file, planes(&got), &planes(&recorded), Tolerance::abs(image.decoding(&picture)));
    }
    Ok(())
}

/// A file of the case, or of a folder around it.
fn find(case: &Case, file: &str) -> Result<PathBuf> {
    let folder = case.folder.canonicalize().unwrap_or_else(|_| case.folder.clone());
    let found = folder.ancestors().map(|folder| folder.join(file)).find(|path| path.is_file());
    found.with_context(|| format!("{file}: neither in {} nor in a folder around it", case.folder.display()))
}

/// An image as a tensor `[3, height, width]` of bytes.
fn planes(image: &RgbImage) -> RawTensor<'static> {
    let plane = |channel: usize| image.data.iter().skip(channel).step_by(3).copied();
    let data: Vec<u8> = (0..3).flat_map(plane).collect();
    RawTensor { dtype: DType::U8, shape: vec![3, image.height, image.width], data: data.into() }
}
