//! Batches for training: shuffled, decoded and augmented by background threads.
//!
//! A batch is decided by the seed, its epoch and its number in the epoch, and by nothing else: not by the number of
//! threads, nor by what was read before. So the pair (epoch, batch) is all there is to save.

use std::sync::Arc;

use crate::augment::Augment;
use crate::dataset::{self, DataError, Dataset, DatasetSpec, Question};
use crate::image::{OPENAI_MEAN, OPENAI_STD};

mod batches;
mod mixture;
mod prepare;
mod survey;

pub use batches::Batches;
use mixture::Mixture;
use prepare::Shared;
pub use survey::Survey;

/// How batches are made.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Samples in a batch.
    pub batch_size: usize,
    /// Decides the order and the augmentation.
    pub seed: u64,
    /// Whether an epoch runs in random order.
    pub shuffle: bool,
    /// Leaves out the last batch of an epoch where it is not full.
    pub drop_last: bool,
    /// Whether a sample without any text counts as broken; otherwise its text is empty.
    pub require_text: bool,
    /// Whether a question is text enough where one is required.
    pub questions_suffice: bool,
    /// Whether texts are about two images: a sample with one counts as broken. Otherwise a second image is passed over.
    pub two_images: bool,
    /// Most texts, and most questions, that are drawn of a sample for a batch.
    pub texts_per_sample: usize,
    /// Width and height of the images.
    pub image_size: usize,
    /// Mean of red, green and blue, in parts of 255.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue, in parts of 255.
    pub std: [f32; 3],
    /// How samples are varied.
    pub augment: Augment,
    /// Threads that prepare batches; with 0 it is done when a batch is asked for.
    pub threads: usize,
    /// Batches that are prepared ahead, at least one a thread.
    pub prefetch: usize,
    /// Bytes of decoded images that are kept for later epochs.
    pub cache_bytes: usize,
    /// Shrinks images after decoding so that the shorter side is at most this long. An approximation: a small random
    /// crop is enlarged from what is left. It applies to every image, kept or not.
    pub cache_side: Option<usize>,
}

impl Default for LoaderOptions {
    /// CLIP's size and colours, no augmentation, no cache.
    fn default() -> Self {
        Self {
            batch_size: 32,
            seed: 0,
            shuffle: true,
            drop_last: true,
            require_text: true,
            questions_suffice: false,
            two_images: false,
            texts_per_sample: 1,
            image_size: 224,
            mean: OPENAI_MEAN,
            std: OPENAI_STD,
            augment: Augment::default(),
            threads: 1,
            prefetch: 2,
            cache_bytes: 0,
            cache_side: None,
        }
    }
}

/// Samples that are learnt from together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Normalised images: (sample, channel, row, column).
    pub pixel_values: Vec<f32>,
    /// The same of the images on the right, where texts are about two.
    pub second_pixel_values: Vec<f32>,
    /// A text for each sample.
    pub texts: Vec<String>,
    /// All texts that were drawn for each sample; the first is that of `texts`.
    pub captions: Vec<Vec<String>>,
    /// The questions that were drawn for each sample.
    pub questions: Vec<Vec<Question>>,
    /// The names of the samples.
    pub keys: Vec<String>,
    /// The numbers of their classes.
    pub labels: Vec<Option<i64>>,
    /// The names of their classes.
    pub class_names: Vec<Option<String>>,
    /// Their numbers, counted through all data sets in order.
    pub indices: Vec<usize>,
    /// The pass over the data that it belongs to, from 0.
    pub epoch: u64,
    /// Its number in the epoch, from 0.
    pub index: u64,
}

impl Batch {
    /// The image of each sample: (channel, row, column).
    pub fn images(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.pixel_values.chunks_exact((self.pixel_values.len() / self.keys.len().max(1)).max(1))
    }
}

/// A sample that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The name of its data set.
    pub dataset: String,
    /// Its number there.
    pub index: usize,
    /// What is wrong.
    pub reason: String,
}

/// What a data set gives to an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its name.
    pub dataset: String,
    /// Its samples.
    pub samples: usize,
    /// How many samples of an epoch are of it; one may come several times.
    pub per_epoch: usize,
}

/// Makes batches of one or several data sets. Clones share the cache and the list of failures.
#[derive(Clone)]
pub struct Loader {
    shared: Arc<Shared>,
}

impl Loader {
    /// Opens these data sets and mixes them by their weights.
    pub fn open(specs: &[DatasetSpec], options: LoaderOptions) -> Result<Self, DataError> {
        let open = |spec: &DatasetSpec| Ok((dataset::open(spec)?, spec.weight));
        Self::new(specs.iter().map(open).collect::<Result<_, DataError>>()?, options)
    }

    /// Mixes these data sets; a sample occurs in an epoch as often as the weight says.
    pub fn new(datasets: Vec<(Box<dyn Dataset>, f64)>, options: LoaderOptions) -> Result<Self, DataError> {
        Ok(Self { shared: Arc::new(Shared::new(Mixture::new(datasets)?, options)?) })
    }

    /// Samples in an epoch.
    pub fn samples_per_epoch(&self) -> usize {
        self.shared.mixture.samples_per_epoch
    }

    /// What each data set gives to an epoch.
    pub fn shares(&self) -> Vec<Share> {
        let share = |source: &mixture::Source| Share {
            dataset: source.dataset.name().to_owned(),
            samples: source.dataset.len(),
            per_epoch: source.per_epoch,
        };
        self.shared.mixture.sources().iter().map(share).collect()
    }

    /// Batches in an epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        self.shared.batches_per_epoch()
    }

    /// Makes one batch, here and now.
    ///
    /// # Errors
    /// When the number is beyond the epoch, and when a data set holds too many broken samples in a row.
    pub fn batch_at(&self, epoch: u64, index: u64) -> Result<Batch, DataError> {
        self.shared.batch(epoch, index)
    }

    /// The batches from this one to the end of its epoch.
    pub fn epoch(&self, epoch: u64, first: u64) -> Batches {
        let end = epoch.saturating_add(1).saturating_mul(self.batches_per_epoch());
        Batches::new(self.shared.clone(), epoch, first, end)
    }

    /// The batches from this one on, epoch after epoch without a pause and without end.
    pub fn stream(&self, epoch: u64, first: u64) -> Batches {
        Batches::new(self.shared.clone(), epoch, first, u64::MAX)
    }

    /// The samples that could not be used so far, in order. Another one of the same data set stood in for each.
    pub fn failures(&self) -> Vec<Failure> {
        self.shared.failures()
    }

    /// Files that were cut and are passed over from there on, in words.
    pub fn faults(&self) -> Vec<String> {
        self.shared.mixture.sources().iter().flat_map(|source| source.dataset.faults().to_vec()).collect()
    }

    /// How many samples could not be used so far.
    pub fn failure_count(&self) -> u64 {
        self.shared.failure_count()
    }
}
