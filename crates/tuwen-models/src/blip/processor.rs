//! What BLIP and ALBEF want done with a picture: it becomes a square, whatever its shape was.
//!
//! References: salesforce/BLIP `data/__init__.py` (`transform_test`), transformers `image_processing_blip.py`.

use serde_json::{Value, json};
use tuwen_data::image::{Resize, Size, ToRgb, Transform};

use crate::clip::processor::{ProcessorError, transform_of_hf_json, transform_to_hf_json};

/// Preprocessing of images for BLIP.
#[derive(Clone, Debug, PartialEq)]
pub struct BlipImageProcessor {
    /// What is done.
    pub transform: Transform,
}

impl BlipImageProcessor {
    /// As salesforce/BLIP and LAVIS do it for networks that take images of `image_size` by `image_size` pixels.
    pub fn salesforce(image_size: usize) -> Self {
        let squash = Resize::Squash(Size::square(image_size));
        let clip = Transform::openai(image_size);
        let transform = Transform { to_rgb: ToRgb::First, resize: Some(squash), center_crop: None, ..clip };
        Self { transform }
    }

    /// As the processor of transformers does it, which lays images on white.
    pub fn hugging_face(image_size: usize) -> Self {
        let Self { transform } = Self::salesforce(image_size);
        Self { transform: Transform { to_rgb: ToRgb::FirstOnWhite, ..transform } }
    }

    /// From the text of a `preprocessor_config.json`. A size that is one number is that of both sides; what is said of
    /// padding and cropping is left over from other classes.
    ///
    /// # Errors
    /// Where a value has the wrong type, makes no sense, or asks for what is not supported; and for processors of other
    /// models.
    pub fn from_hf_json(text: &str) -> Result<Self, ProcessorError> {
        let mut config: Value = serde_json::from_str(text)?;
        if let Some(fields) = config.as_object_mut() {
            fields.remove("crop_size");
            if let Some(side @ Value::Number(_)) = fields.get("size").cloned() {
                fields.insert("size".into(), json!({ "height": side.clone(), "width": side }));
            }
        }
        let transform = transform_of_hf_json(config, "Blip", Self::hugging_face(384).transform)?;
        Ok(Self { transform })
    }

    /// The same for images of another size.
    #[must_use]
    pub fn resized(self, image_size: usize) -> Self {
        let resize = self.transform.resize.map(|_| Resize::Squash(Size::square(image_size)));
        Self { transform: Transform { resize, ..self.transform } }
    }

    /// A `preprocessor_config.json`.
    ///
    /// # Errors
    /// Where the transform fits the longer side into the image: the processor of transformers cannot do that.
    pub fn to_hf_json(&self) -> Result<String, ProcessorError> {
        transform_to_hf_json(&self.transform, "BlipImageProcessor")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_mean_a_square() {
        let leftovers = r#""do_pad": true, "size_divisor": 32, "crop_size": 224, "resample": 3"#;
        for size in ["384", r#"{"height": 384, "width": 384}"#] {
            let json =
                format!(r#"{{"image_processor_type": "BlipImageProcessor", "size": {size}, {leftovers}}}"#);
            let processor = BlipImageProcessor::from_hf_json(&json).expect("read");
            assert_eq!(processor, BlipImageProcessor::hugging_face(384));
        }
        assert_eq!(
            BlipImageProcessor::from_hf_json("{}").expect("read"),
            BlipImageProcessor::hugging_face(384)
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let processor = BlipImageProcessor::hugging_face(224);
        let json = processor.to_hf_json().expect("written");
        assert_eq!(BlipImageProcessor::from_hf_json(&json).expect("read"), processor);
    }

    #[test]
    fn processors_of_others_are_refused() {
        for json in
            [r#"{"image_processor_type": "CLIPImageProcessor"}"#, r#"{"size": {"shortest": 3}}"#, "[]"]
        {
            let message = BlipImageProcessor::from_hf_json(json).expect_err(json).to_string();
            assert!(message.starts_with("image preprocessing: ") && !message.contains('\n'), "{message}");
        }
    }
}
