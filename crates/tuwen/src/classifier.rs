//! A linear classifier on image features: a linear probe, or the head of a fine-tuned model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tuwen_models::clip::{ClipConfig, ImageFeatures};
use tuwen_tensor::checkpoint::{self, RawTensor, TensorSource, write_safetensors};

use crate::embeddings::softmax;
use crate::place::Place;
use crate::{Embeddings, Error};

const WEIGHT: &str = "classifier.weight";
const BIAS: &str = "classifier.bias";
/// Keys of the file's metadata.
const LABELS: &str = "labels";
const FEATURES: &str = "features";

/// Labels, and for each a weighting of the features of an image.
///
/// In a file it is safetensors: `classifier.weight` `[labels, dim]` and `classifier.bias` `[labels]`; the metadata
/// hold `labels`, a JSON array of texts, and `features`, the name of the [`ImageFeatures`].
#[derive(Clone, Debug, PartialEq)]
pub struct LinearClassifier {
    labels: Vec<String>,
    features: ImageFeatures,
    weight: Embeddings,
    bias: Vec<f32>,
}

impl LinearClassifier {
    /// The name of the file beside the weights of a fine-tuned model.
    pub const FILE: &'static str = "classifier.safetensors";

    /// A classifier with a row of `weight` and a number of `bias` for each label.
    ///
    /// # Panics
    /// If their numbers differ.
    pub fn new(labels: Vec<String>, features: ImageFeatures, weight: Embeddings, bias: Vec<f32>) -> Self {
        assert!(
            weight.len() == labels.len() && bias.len() == labels.len(),
            "a row and a bias for each label"
        );
        Self { labels, features, weight, bias }
    }

    /// What its scores are of.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// What it looks at.
    pub fn features(&self) -> ImageFeatures {
        self.features
    }

    /// A row for each label.
    pub fn weight(&self) -> &Embeddings {
        &self.weight
    }

    /// A number for each label.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Scores before the softmax: a row for each image.
    pub fn logits(&self, images: &Embeddings) -> Vec<Vec<f32>> {
        let mut rows = images.dot(&self.weight);
        for row in &mut rows {
            row.iter_mut().zip(&self.bias).for_each(|(logit, bias)| *logit += bias);
        }
        rows
    }

    /// Probabilities over the labels: a row for each image.
    pub fn probabilities(&self, images: &Embeddings) -> Vec<Vec<f32>> {
        let mut rows = self.logits(images);
        rows.iter_mut().for_each(|row| softmax(row));
        rows
    }

    /// Writes it to a file, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let shape = [self.weight.len(), self.weight.dim()];
        let tensors = [
            (WEIGHT.to_owned(), RawTensor::from_f32(&shape, self.weight.values())),
            (BIAS.to_owned(), RawTensor::from_f32(&shape[..1], &self.bias)),
        ];
        let labels = serde_json::Value::from(self.labels.clone()).to_string();
        let metadata = [("format", "pt"), (LABELS, &labels), (FEATURES, self.features.name())];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(write_safetensors(path, tensors, &BTreeMap::from(metadata))?)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = checkpoint::open(path)?;
        let fault = |reason: String| Error::Classifier { path: path.to_owned(), reason };
        let (Some(weight), Some(bias)) = (file.info(WEIGHT), file.info(BIAS)) else {
            return Err(fault(format!("no linear classifier (it lacks {WEIGHT} or {BIAS})")));
        };
        let text = file.metadata().get(LABELS);
        let labels: Option<Vec<String>> = text.and_then(|text| serde_json::from_str(text).ok());
        let labels = labels.ok_or_else(|| fault(format!("its metadata have no list {LABELS:?}")))?;
        let features = file.metadata().get(FEATURES).and_then(|name| ImageFeatures::find(name));
        let features = features.ok_or_else(|| {
            let known = ImageFeatures::ALL.map(ImageFeatures::name).join(", ");
            fault(format!("its metadata have no {FEATURES:?} (one of {known})"))
        })?;
        let count = labels.len();
        match (&weight.shape[..], &bias.shape[..]) {
            (&[rows, dim], &[biases]) if count > 0 && dim > 0 && rows == count && biases == count => {
                let read = |name| Ok::<_, Error>(file.read(name)?.to_f32().to_vec());
                Ok(Self::new(labels, features, Embeddings::new(read(WEIGHT)?, dim), read(BIAS)?))
            }
            (weight, bias) => {
                let expected = format!("expected [{count}, dim] and [{count}] for its {count} labels");
                Err(fault(format!("{expected}, got {weight:?} and {bias:?}")))
            }
        }
    }

    /// Whether a model whose [features](LinearClassifier::features) have this width gives what the classifier needs.
    ///
    /// # Errors
    /// It does not; `path` is what the error calls this classifier.
    pub fn check(&self, got: usize, path: &Path) -> Result<(), Error> {
        let expected = self.weight.dim();
        if expected == got {
            return Ok(());
        }
        let features = self.features;
        let reason = format!("made for {expected} {features} features of an image, the model gives {got}");
        Err(Error::Classifier { path: path.to_owned(), reason })
    }

    /// The classifier in the directory of a model, if there is one.
    pub(crate) fn beside(place: &Place, config: &ClipConfig) -> Result<Option<Self>, Error> {
        let Place::Directory(directory) = place else { return Ok(None) };
        let path: PathBuf = directory.join(Self::FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let classifier = Self::read(&path)?;
        classifier.check(config.image_feature_dim(classifier.features), &path)?;
        Ok(Some(classifier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classifier() -> LinearClassifier {
        let labels = vec!["a, b".to_owned(), "猫 \"x\"".to_owned()];
        let weight = Embeddings::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3);
        LinearClassifier::new(labels, ImageFeatures::Pooled, weight, vec![0.5, -0.5])
    }

    #[test]
    fn what_is_written_is_read() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("probe.safetensors");
        classifier().write(&path).expect("written");
        assert_eq!(LinearClassifier::read(&path).expect("read"), classifier());
        let logits = classifier().logits(&Embeddings::new(vec![1.0, 0.0, -1.0], 3));
        assert_eq!(logits, [[-1.5, -2.5]]);
    }

    #[test]
    fn other_files_are_named() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("x.safetensors");
        let write = |weight: &[usize], metadata: &[(&str, &str)]| {
            let tensor = |shape: &[usize]| RawTensor::from_f32(shape, &vec![0.0; shape.iter().product()]);
            let tensors = [(WEIGHT.to_owned(), tensor(weight)), (BIAS.to_owned(), tensor(&[2]))];
            let metadata = metadata.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
            write_safetensors(&path, tensors, &metadata).expect("written");
            LinearClassifier::read(&path).expect_err("refused").to_string()
        };
        let named = [(LABELS, r#"["a","b"]"#), (FEATURES, "pooled")];
        assert!(write(&[2, 3], &[]).contains("no list \"labels\""));
        assert!(write(&[2, 3], &named[..1]).contains("no \"features\""));
        assert!(write(&[3, 3], &named).contains("expected [2, dim] and [2]"));
        assert!(write(&[2, 0], &named).contains("expected [2, dim]"));
        write_safetensors(&path, [("w".to_owned(), RawTensor::from_f32(&[], &[0.0]))], &BTreeMap::new())
            .expect("written");
        assert!(
            LinearClassifier::read(&path).expect_err("refused").to_string().contains("no linear classifier")
        );
    }
}
