//! Samples, read and decoded ahead of the models on threads beside them. Each picture is decoded once.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use serde_json::{Map, Value};
use tuwen_data::dataset::{Dataset, Sample};
use tuwen_data::image::{Picture, RgbImage, Transform};
use tuwen_data::parallel;

use crate::Models;

/// Batches that wait to be taken.
const AHEAD: usize = 2;

/// How pictures are prepared: once, or once for each of two models that see differently.
#[derive(Clone)]
pub(super) struct Preparation {
    transforms: Vec<Transform>,
    exact: bool,
}

/// A sample as a source has it, and its picture as the models want it.
pub(super) struct Item {
    pub index: usize,
    pub sample: Sample,
    pub metadata: Map<String, Value>,
    pub picture: Result<Vec<RgbImage>, Problem>,
}

/// Why there is no picture.
pub(super) enum Problem {
    /// The source has none, as where a download failed.
    NoImage,
    /// What is wrong with the sample or its image.
    Broken(String),
}

impl Preparation {
    /// For these models: first the captioner's or the only one, then the filter's.
    pub fn of<F>(models: &Models<'_, F>, exact: bool) -> Self {
        let captioner = models.captioner.filter(|_| !models.shared);
        let captioner = captioner.map(|captioner| captioner.transform().clone());
        Self { transforms: captioner.into_iter().chain([models.filter.transform().clone()]).collect(), exact }
    }

    /// Decodes an image file once, large enough for all.
    fn apply(&self, image: &[u8]) -> Result<Vec<RgbImage>, Problem> {
        if image.is_empty() {
            return Err(Problem::NoImage);
        }
        let side = |transform: &&Transform| transform.output_size().map_or(usize::MAX, |size| size.height);
        let largest = self.transforms.iter().max_by_key(side).filter(|_| !self.exact);
        let picture = match largest {
            Some(transform) => Picture::decode_for(image, transform),
            None => Picture::decode(image),
        };
        let picture = picture.map_err(|error| Problem::Broken(error.to_string()))?;
        Ok(self.transforms.iter().map(|transform| transform.apply(&picture)).collect())
    }

    fn item(&self, dataset: &dyn Dataset, index: usize) -> Item {
        let read = dataset.get(index).and_then(|sample| Ok((sample, dataset.metadata(index)?)));
        match read {
            Ok((sample, metadata)) => Item { index, picture: self.apply(&sample.image), sample, metadata },
            Err(error) => {
                let sample = Sample { key: format!("#{index}"), ..Sample::default() };
                let picture = Err(Problem::Broken(error.to_string()));
                Item { index, sample, metadata: Map::new(), picture }
            }
        }
    }
}

/// Batches of a stretch of samples, always the same ones.
pub(super) fn batches<'s, 'e: 's>(
    scope: &'s Scope<'s, 'e>,
    dataset: &'e dyn Dataset,
    range: Range<usize>,
    (preparation, batch_size): (&'e Preparation, usize),
    stop: &'e AtomicBool,
) -> Receiver<Vec<Item>> {
    let (sender, receiver) = sync_channel(AHEAD);
    let threads = tuwen_kernels::threads();
    scope.spawn(move || {
        for first in range.clone().step_by(batch_size) {
            let numbers: Vec<usize> = (first..range.end.min(first + batch_size)).collect();
            let batch = parallel::map(&numbers, threads, |&index| preparation.item(dataset, index));
            if stop.load(Ordering::Relaxed) || sender.send(batch).is_err() {
                return;
            }
        }
    });
    receiver
}
