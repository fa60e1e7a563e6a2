//! What CLIP wants done with a picture, from and to the files that describe it.
//!
//! References: transformers `image_processing_clip.py` (`preprocessor_config.json`), open_clip `transform.py`
//! (`preprocess_cfg` in `open_clip_config.json`).

use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;
use tuwen_data::image::{Interpolation, Resize, Size, ToRgb, Transform};

/// Preprocessing of images for CLIP.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipImageProcessor {
    /// What is done.
    pub transform: Transform,
}

/// Why a preprocessing cannot be read or written.
#[derive(Debug, Error)]
pub enum ProcessorError {
    /// The text is no JSON object, or a value has the wrong type.
    #[error("image preprocessing: {0}")]
    Json(#[from] serde_json::Error),
    /// A value that makes no sense, contradicts another or asks for something that is not supported.
    #[error("image preprocessing: {field}: expected {expected}, got {got}")]
    Field {
        /// Its name in the file.
        field: &'static str,
        /// What is possible.
        expected: &'static str,
        /// What is there.
        got: String,
    },
}

fn wrong<T>(field: &'static str, expected: &'static str, got: impl ToString) -> Result<T, ProcessorError> {
    Err(ProcessorError::Field { field, expected, got: got.to_string() })
}

/// The fields of `preprocessor_config.json` that matter; what is missing has the default of the class.
#[derive(Deserialize)]
struct HfConfig {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Value>,
    resample: Option<u64>,
    do_center_crop: Option<bool>,
    crop_size: Option<Value>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<Vec<f32>>,
    image_std: Option<Vec<f32>>,
    do_convert_rgb: Option<bool>,
}

/// open_clip's `PreprocessCfg`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenClipConfig {
    #[serde(rename = "size")]
    _size: Option<Value>,
    mode: Option<String>,
    mean: Option<Vec<f32>>,
    std: Option<Vec<f32>>,
    interpolation: Option<String>,
    resize_mode: Option<String>,
    fill_color: Option<u8>,
}

impl ClipImageProcessor {
    /// As openai/CLIP does it for networks that take images of `image_size` by `image_size` pixels.
    pub fn openai(image_size: usize) -> Self {
        Self { transform: Transform::openai(image_size) }
    }

    /// From the text of a `preprocessor_config.json`, in its old form (sizes are numbers) or its new one.
    ///
    /// # Errors
    /// Where a value has the wrong type, makes no sense, contradicts another, or asks for what is not supported; and
    /// for processors of other models.
    pub fn from_hf_json(text: &str) -> Result<Self, ProcessorError> {
        let transform =
            transform_of_hf_json(serde_json::from_str(text)?, "CLIP", Transform::hugging_face(224))?;
        Ok(Self { transform })
    }

    /// From the `preprocess_cfg` of an open_clip configuration, for a network that takes images of `image_size` by
    /// `image_size` pixels; that size counts, not the one in the configuration.
    ///
    /// # Errors
    /// Where a field is unknown, has the wrong type, makes no sense, or asks for what is not supported.
    pub fn from_open_clip_json(preprocess_cfg: &Value, image_size: usize) -> Result<Self, ProcessorError> {
        let config = OpenClipConfig::deserialize(preprocess_cfg)?;
        let default = Transform::openai(image_size);
        if let Some(mode) = config.mode
            && mode != "RGB"
        {
            return wrong("mode", "RGB", mode);
        }
        let square = Size::square(image_size);
        let (resize, center_crop) = match config.resize_mode.as_deref() {
            None | Some("shortest") => (default.resize, default.center_crop),
            Some("longest") => (Some(Resize::LongestEdge(square)), Some(square)),
            Some("squash") => (Some(Resize::Squash(square)), None),
            Some(mode) => return wrong("resize_mode", "shortest, longest or squash", mode),
        };
        Ok(Self {
            transform: Transform {
                resize,
                center_crop,
                interpolation: match config.interpolation.as_deref() {
                    None | Some("bicubic") => Interpolation::Bicubic,
                    Some("bilinear") => Interpolation::Bilinear,
                    Some(name) => return wrong("interpolation", "bicubic or bilinear", name),
                },
                fill: config.fill_color.unwrap_or(0),
                mean: mean("mean", config.mean, default.mean)?,
                std: std("std", config.std, default.std)?,
                ..default
            },
        })
    }

    /// The `preprocess_cfg` of an open_clip configuration.
    ///
    /// # Errors
    /// Where open_clip has no word for the interpolation.
    pub fn to_open_clip_json(&self) -> Result<Value, ProcessorError> {
        let transform = &self.transform;
        let interpolation = match transform.interpolation {
            Interpolation::Bicubic => "bicubic",
            Interpolation::Bilinear => "bilinear",
            Interpolation::Nearest => return wrong("interpolation", "bicubic or bilinear", "nearest"),
        };
        let resize_mode = match transform.resize {
            None | Some(Resize::ShortestEdge(_)) => "shortest",
            Some(Resize::Squash(_)) => "squash",
            Some(Resize::LongestEdge(_)) => "longest",
        };
        Ok(json!({
            "mean": decimals(transform.mean),
            "std": decimals(transform.std),
            "interpolation": interpolation,
            "resize_mode": resize_mode,
            "fill_color": transform.fill,
        }))
    }

    /// A `preprocessor_config.json` in the new form.
    ///
    /// # Errors
    /// Where the transform fits the longer side into the image: the processor of transformers cannot do that.
    pub fn to_hf_json(&self) -> Result<String, ProcessorError> {
        transform_to_hf_json(&self.transform, "CLIPImageProcessor")
    }
}

/// A `preprocessor_config.json` of a class.
///
/// # Errors
/// Where the transform fits the longer side into the image.
pub(crate) fn transform_to_hf_json(transform: &Transform, class: &str) -> Result<String, ProcessorError> {
    let mut config = Map::new();
    let mut set = |name: &str, value: Value| config.insert(name.to_owned(), value);
    set("image_processor_type", json!(class));
    set("do_convert_rgb", json!(true));
    set("do_resize", json!(transform.resize.is_some()));
    match transform.resize {
        None => None,
        Some(Resize::ShortestEdge(side)) => set("size", json!({ "shortest_edge": side })),
        Some(Resize::Squash(size)) => set("size", json!({ "height": size.height, "width": size.width })),
        Some(Resize::LongestEdge(_)) => {
            return wrong("size", "the shorter side or both sides", "the longer side and padding");
        }
    };
    set(
        "resample",
        json!(match transform.interpolation {
            Interpolation::Nearest => 0,
            Interpolation::Bilinear => 2,
            Interpolation::Bicubic => 3,
        }),
    );
    set("do_center_crop", json!(transform.center_crop.is_some()));
    if let Some(size) = transform.center_crop {
        set("crop_size", json!({ "height": size.height, "width": size.width }));
    }
    set("do_rescale", json!(transform.do_rescale));
    set("rescale_factor", json!(transform.rescale_factor));
    set("do_normalize", json!(transform.do_normalize));
    set("image_mean", decimals(transform.mean));
    set("image_std", decimals(transform.std));
    Ok(serde_json::to_string_pretty(&config)?)
}

/// What the `preprocessor_config.json` of a class whose name begins with `class` wants; what it leaves out is as in `default`.
pub(crate) fn transform_of_hf_json(
    config: Value,
    class: &'static str,
    default: Transform,
) -> Result<Transform, ProcessorError> {
    let config: HfConfig = serde_json::from_value(config)?;
    for (field, name) in [
        ("image_processor_type", &config.image_processor_type),
        ("feature_extractor_type", &config.feature_extractor_type),
    ] {
        if let Some(name) = name
            && !name.starts_with(class)
        {
            let expected = if class == "CLIP" { "a processor of CLIP" } else { "a processor of BLIP" };
            return wrong(field, expected, name);
        }
    }
    let resize = match &config.size {
        None | Some(Value::Null) => default.resize,
        Some(size) => Some(hf_resize(size)?),
    };
    let center_crop = match &config.crop_size {
        None | Some(Value::Null) => default.center_crop,
        Some(size) => Some(hf_crop(size)?),
    };
    let rescale_factor = config.rescale_factor.unwrap_or(default.rescale_factor);
    if !rescale_factor.is_finite() || rescale_factor <= 0.0 {
        return wrong("rescale_factor", "a number above 0", rescale_factor);
    }
    Ok(Transform {
        to_rgb: if config.do_convert_rgb.unwrap_or(true) { ToRgb::FirstOnWhite } else { ToRgb::First },
        resize: resize.filter(|_| config.do_resize.unwrap_or(true)),
        interpolation: match config.resample {
            Some(0) => Interpolation::Nearest,
            Some(2) => Interpolation::Bilinear,
            None | Some(3) => Interpolation::Bicubic,
            Some(number) => {
                return wrong("resample", "0 (nearest), 2 (bilinear) or 3 (bicubic)", number);
            }
        },
        center_crop: center_crop.filter(|_| config.do_center_crop.unwrap_or(true)),
        do_rescale: config.do_rescale.unwrap_or(true),
        rescale_factor,
        do_normalize: config.do_normalize.unwrap_or(true),
        mean: mean("image_mean", config.image_mean, default.mean)?,
        std: std("image_std", config.image_std, default.std)?,
        ..default
    })
}

/// Numbers with the digits that make out an `f32`, not those of its value as an `f64`.
fn decimals(values: [f32; 3]) -> Value {
    values.iter().map(|value| value.to_string().parse::<f64>().unwrap_or_else(|_| (*value).into())).collect()
}

fn side(field: &'static str, value: &Value) -> Result<usize, ProcessorError> {
    const MOST: u64 = 1 << 16;
    match value.as_u64() {
        Some(side @ 1..=MOST) => Ok(side as usize),
        _ => wrong(field, "a number of pixels from 1 to 65536", value),
    }
}

fn hf_resize(size: &Value) -> Result<Resize, ProcessorError> {
    const FORMS: &str = "a number, {shortest_edge} or {height, width}";
    let Some(object) = size.as_object() else { return Ok(Resize::ShortestEdge(side("size", size)?)) };
    match (object.len(), object.get("shortest_edge"), object.get("height"), object.get("width")) {
        (1, Some(shortest), None, None) => Ok(Resize::ShortestEdge(side("size.shortest_edge", shortest)?)),
        (2, None, Some(height), Some(width)) => Ok(Resize::Squash(Size {
            height: side("size.height", height)?,
            width: side("size.width", width)?,
        })),
        _ => wrong("size", FORMS, size),
    }
}

fn hf_crop(size: &Value) -> Result<Size, ProcessorError> {
    let Some(object) = size.as_object() else { return Ok(Size::square(side("crop_size", size)?)) };
    match (object.len(), object.get("height"), object.get("width")) {
        (2, Some(height), Some(width)) => {
            Ok(Size { height: side("crop_size.height", height)?, width: side("crop_size.width", width)? })
        }
        _ => wrong("crop_size", "a number or {height, width}", size),
    }
}

fn mean(field: &'static str, value: Option<Vec<f32>>, default: [f32; 3]) -> Result<[f32; 3], ProcessorError> {
    let Some(value) = value else { return Ok(default) };
    match <[f32; 3]>::try_from(value) {
        Ok(three) if three.iter().all(|value| value.is_finite()) => Ok(three),
        Ok(three) => wrong(field, "three finite numbers", format!("{three:?}")),
        Err(value) => wrong(field, "three numbers", format!("{value:?}")),
    }
}

fn std(field: &'static str, value: Option<Vec<f32>>, default: [f32; 3]) -> Result<[f32; 3], ProcessorError> {
    let three = mean(field, value, default)?;
    if three.iter().all(|&value| value > 0.0) {
        Ok(three)
    } else {
        wrong(field, "three numbers above 0", format!("{three:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hf(text: &str) -> Transform {
        ClipImageProcessor::from_hf_json(text).unwrap().transform
    }

    #[test]
    fn both_forms_of_hugging_face_mean_the_same() {
        let old = r#"{"crop_size": 336, "do_center_crop": true, "do_normalize": true, "do_resize": true,
            "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 336}"#;
        let new = r#"{"crop_size": {"height": 336, "width": 336}, "do_center_crop": true, "do_convert_rgb": true,
            "do_normalize": true, "do_rescale": true, "do_resize": true, "image_processor_type": "CLIPImageProcessor",
            "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 336}}"#;
        assert_eq!(hf(old), Transform::hugging_face(336));
        assert_eq!(hf(new), Transform::hugging_face(336));
        assert_eq!(hf("{}"), Transform::hugging_face(224));
        assert_eq!(hf(r#"{"size": null, "resample": null}"#), Transform::hugging_face(224));
    }

    #[test]
    fn steps_can_be_switched_off() {
        let transform = hf(r#"{"do_resize": false, "do_center_crop": false, "do_rescale": false,
            "do_normalize": false, "do_convert_rgb": false, "resample": 2, "image_std": [1, 2, 3]}"#);
        assert_eq!((transform.resize, transform.center_crop), (None, None));
        assert!(!transform.do_rescale && !transform.do_normalize);
        assert_eq!((transform.to_rgb, transform.std), (ToRgb::First, [1.0, 2.0, 3.0]));
        assert_eq!(transform.interpolation, Interpolation::Bilinear);
        let squash = hf(r#"{"size": {"height": 32, "width": 48}, "do_center_crop": false}"#);
        assert_eq!(squash.output_size(), Some(Size { height: 32, width: 48 }));
    }

    #[test]
    fn nonsense_is_an_error_that_names_the_field() {
        for (text, field) in [
            (r#"{"size": 0}"#, "size"),
            (r#"{"size": -3}"#, "size"),
            (r#"{"size": [224, 224]}"#, "size"),
            (r#"{"size": {"shortest_edge": 224, "height": 224, "width": 224}}"#, "size"),
            (r#"{"size": {"height": 224}}"#, "size"),
            (r#"{"crop_size": {"shortest_edge": 224}}"#, "crop_size"),
            (r#"{"crop_size": {"height": 1e9, "width": 3}}"#, "crop_size.height"),
            (r#"{"resample": 1}"#, "resample"),
            (r#"{"rescale_factor": 0}"#, "rescale_factor"),
            (r#"{"image_mean": [0.5]}"#, "image_mean"),
            (r#"{"image_std": [0.5, 0.5, 0]}"#, "image_std"),
            (r#"{"image_processor_type": "ViTImageProcessor"}"#, "image_processor_type"),
        ] {
            match ClipImageProcessor::from_hf_json(text) {
                Err(ProcessorError::Field { field: named, .. }) => assert_eq!(named, field, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        for text in ["", "[]", r#"{"do_resize": "yes"}"#, r#"{"image_mean": 0.5}"#] {
            assert!(matches!(ClipImageProcessor::from_hf_json(text), Err(ProcessorError::Json(_))), "{text}");
        }
    }

    #[test]
    fn open_clip_says_how_it_differs() {
        let read = |config: Value| ClipImageProcessor::from_open_clip_json(&config, 256);
        assert_eq!(read(json!({})).unwrap(), ClipImageProcessor::openai(256));
        let siglip = json!({"size": [224, 224], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic", "resize_mode": "squash"});
        let transform = read(siglip).unwrap().transform;
        assert_eq!(transform.resize, Some(Resize::Squash(Size::square(256))));
        assert_eq!((transform.center_crop, transform.mean), (None, [0.5; 3]));
        let longest = read(json!({"resize_mode": "longest", "fill_color": 7})).unwrap().transform;
        assert_eq!((longest.output_size(), longest.fill), (Some(Size::square(256)), 7));
        for wrong in [
            json!({"resize_mode": "pad"}),
            json!({"interpolation": "random"}),
            json!({"mode": "L"}),
            json!({"std": [1, 1, -1]}),
            json!({"colour": 1}),
            json!(3),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_open_clip_is_told_it_says_again() {
        for mode in ["shortest", "squash", "longest"] {
            let config = json!({"resize_mode": mode, "interpolation": "bilinear", "mean": [0.5, 0.25, 0.1]});
            let processor = ClipImageProcessor::from_open_clip_json(&config, 64).unwrap();
            let written = processor.to_open_clip_json().unwrap();
            assert_eq!(ClipImageProcessor::from_open_clip_json(&written, 64).unwrap(), processor);
        }
        let transform = Transform { interpolation: Interpolation::Nearest, ..Transform::openai(8) };
        assert!(ClipImageProcessor { transform }.to_open_clip_json().is_err());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut processor = ClipImageProcessor { transform: Transform::hugging_face(224) };
        let text = processor.to_hf_json().unwrap();
        assert!(text.contains("0.4578275,") && text.contains("0.00392156862745098,"), "{text}");
        assert_eq!(ClipImageProcessor::from_hf_json(&text).unwrap(), processor);
        processor.transform.resize = Some(Resize::Squash(Size { height: 3, width: 5 }));
        (processor.transform.center_crop, processor.transform.do_normalize) = (None, false);
        let text = processor.to_hf_json().unwrap();
        assert_eq!(ClipImageProcessor::from_hf_json(&text).unwrap(), processor);
        processor.transform.resize = Some(Resize::LongestEdge(Size::square(5)));
        assert!(processor.to_hf_json().is_err());
    }
}
