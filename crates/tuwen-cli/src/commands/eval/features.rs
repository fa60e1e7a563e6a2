//! Features on the disk, for a second run on the same data with the same model.
//!
//! A file is found by the hash of all that decides its content: weights, preparation, kind of features, and every sample.
//! What has changed in any way is computed again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest, Sha256};
use tuwen::{Embeddings, ImageFeatures, Model};
use tuwen_data::dataset::{Dataset, Sample};
use tuwen_eval::Encoded;
use tuwen_tensor::checkpoint::{DType, RawTensor, TensorSource, open, write_safetensors};

use crate::failure::Failure;

const FEATURES: &str = "features";
const LABELS: &str = "labels";

/// A directory of features, for one model.
pub struct Cache<'a> {
    directory: &'a Path,
    /// The hash of what belongs to the model.
    model: Sha256,
}

/// Where the features of a data set are, or will be.
pub struct Place {
    path: PathBuf,
    /// Everything but the images, of the samples that can be read.
    samples: Vec<Sample>,
}

impl<'a> Cache<'a> {
    pub fn new(directory: &'a Path, model: &Model, features: ImageFeatures) -> Self {
        let mut hash = Sha256::new();
        let fingerprint = model.fingerprint();
        for part in [env!("CARGO_PKG_VERSION"), features.name(), &fingerprint] {
            hash.update(part);
            hash.update([0]);
        }
        let parameters = model.parameters();
        for name in parameters.names() {
            if let Ok(tensor) = parameters.read(&name) {
                hash.update(&tensor.data);
            }
        }
        Self { directory, model: hash }
    }

    /// Reads all of a data set to find its place.
    pub fn place(&self, dataset: &dyn Dataset) -> Place {
        let mut hash = self.model.clone();
        let mut samples = Vec::new();
        for index in 0..dataset.len() {
            let Ok(sample) = dataset.get(index) else {
                hash.update([0]);
                continue;
            };
            hash.update([1]);
            hash.update((sample.image.len() as u64).to_le_bytes());
            hash.update(&sample.image);
            samples.push(Sample { image: Vec::new(), ..sample });
        }
        let name: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Place { path: self.directory.join(format!("{name}.safetensors")), samples }
    }
}

impl Place {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The features, if they are there and whole, and everything could be read when they were made.
    pub fn read(&self, dataset: &dyn Dataset, dim: usize) -> Option<Encoded> {
        let file = open(&self.path).ok()?;
        let features = file.read(FEATURES).ok()?;
        let samples = self.samples.clone();
        let whole = features.shape == [samples.len(), dim] && samples.len() == dataset.len();
        let images = whole.then(|| Embeddings::new(features.to_f32().to_vec(), dim))?;
        Some(Encoded { data: dataset.name().to_owned(), images, samples, failed: Vec::new() })
    }

    /// Keeps features, unless some samples could not be read: those are named anew in each run.
    pub fn write(&self, encoded: &Encoded) -> Result<(), Failure> {
        if !encoded.failed.is_empty() {
            return Ok(());
        }
        let directory = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let images = &encoded.images;
        let labels = encoded.samples.iter().flat_map(|sample| sample.label.unwrap_or(-1).to_le_bytes());
        let labels = RawTensor {
            dtype: DType::I64,
            shape: vec![images.len()],
            data: labels.collect::<Vec<u8>>().into(),
        };
        let tensors = [
            (FEATURES.to_owned(), RawTensor::from_f32(&[images.len(), images.dim()], images.values())),
            (LABELS.to_owned(), labels),
        ];
        Ok(write_safetensors(&self.path, tensors, &BTreeMap::new())?)
    }
}
