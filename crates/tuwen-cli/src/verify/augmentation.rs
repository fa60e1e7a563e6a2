//! Operations of RandAugment with given arguments.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use tuwen_data::augment::Operation;
use tuwen_data::image::RgbImage;
use tuwen_tensor::checkpoint::{Checkpoint, DType, RawTensor, TensorSource};

use super::case::Case;
use super::report::{Report, Tolerance};

/// The list of operations of a case.
#[derive(Deserialize)]
struct Config {
    ops: Vec<Recorded>,
}

/// An operation with its arguments, and what its results are called behind the name of a picture.
#[derive(Deserialize)]
struct Recorded {
    key: String,
    op: String,
    #[serde(default)]
    args: Vec<f32>,
}

/// What a picture is called behind its name.
const INPUT: &str = ".input";
/// Pictures with a black pixel, on which the reference's slip does not show.
const WITH_BLACK: &str = ".input_zero";

/// Whether a case is about operations on images.
pub fn fits(case: &Case) -> Result<bool> {
    let has = |list: Value| list.get("ops").and_then(Value::as_array).is_some();
    Ok(case.has("expected.safetensors") && case.has("config.json") && has(case.json("config.json")?))
}

/// Computes and compares.
pub fn run(case: &Case) -> Result<Report> {
    let path = case.path("config.json");
    let config: Config =
        serde_json::from_value(case.json("config.json")?).with_context(|| path.display().to_string())?;
    let expected = case.tensors("expected.safetensors")?;
    let names = expected.names();
    let pictures = names.iter().filter_map(|name| name.strip_suffix(INPUT));
    let mut report = Report::default();
    for picture in pictures {
        for Recorded { key, op, args } in &config.ops {
            let Some(operation) = Operation::named(op) else { continue };
            let tolerance = tolerance(case, op)?;
            let argument = args.first().copied().unwrap_or(0.0);
            // `.zero` is the same on the other picture.
            for (suffix, input) in [("", INPUT), (".zero", WITH_BLACK)] {
                let name = format!("{picture}.{key}{suffix}");
                if !names.contains(&name) {
                    continue;
                }
                let mut image = image(&expected, &format!("{picture}{input}"))?;
                operation.apply(&mut image, argument);
                report.compare(&name, tensor(image), &expected.read(&name)?, tolerance);
            }
        }
    }
    let is_input = |name: &&String| name.ends_with(INPUT) || name.ends_with(WITH_BLACK);
    let left = names.len() - names.iter().filter(is_input).count() - report.rows.len();
    if left > 0 {
        report.notes.push(format!(
            "{left} images are of operations that BLIP does not draw, or are not its program's"
        ));
    }
    Ok(report)
}

/// Grey levels by which an operation may be off: the larger number of `"1 to 2 grey levels"`, for operations that are not
/// named those of the tables.
fn tolerance(case: &Case, operation: &str) -> Result<Tolerance> {
    let stated = case.meta["tolerance"].as_object().context("meta.json: no tolerance")?;
    let names = |key: &String| key.split(", ").any(|name| name == operation);
    let text = stated.iter().find(|(key, _)| names(key)).map(|(_, text)| text);
    let Some(text) = text.or_else(|| stated.get("table operations")).and_then(Value::as_str) else {
        bail!("meta.json: no tolerance for {operation}");
    };
    let levels = text.split("grey").next().unwrap_or_default();
    let numbers = levels.split(' ').filter_map(|word| word.parse::<f64>().ok());
    Ok(Tolerance::abs(numbers.fold(0.0, f64::max)))
}

fn image(tensors: &Checkpoint, name: &str) -> Result<RgbImage> {
    let raw = tensors.read(name)?;
    match (raw.dtype, raw.shape.as_slice()) {
        (DType::U8, &[height, width, 3]) => Ok(RgbImage { width, height, data: raw.data.to_vec() }),
        (dtype, shape) => bail!("{name}: expected bytes [height, width, 3], got {dtype} {shape:?}"),
    }
}

fn tensor(image: RgbImage) -> RawTensor<'static> {
    RawTensor { dtype: DType::U8, shape: vec![image.height, image.width, 3], data: image.data.into() }
}
