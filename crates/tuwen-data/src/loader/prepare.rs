//! From sample numbers to batches: the order of an epoch, reading, decoding, the cache and what stands in for
//! broken samples.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mixture::{Mixture, Source};
use super::{Batch, Failure, LoaderOptions};
use crate::dataset::{DataError, Question, Sample};
use crate::guard::guarded;
use crate::image::{Interpolation, MAX_ASPECT, Normalizer, RgbImage, decode_rgb, resize, shortest_edge_to};
use crate::parallel;
use crate::rng::Rng;

/// So many samples in a row that cannot be used mean that a data set is no good.
const MAX_BROKEN_IN_A_ROW: usize = 1000;

/// Samples that are fetched ahead at once over a network, and by how many requests.
const FETCHED: usize = 64;
const REQUESTS: usize = 16;

/// What the random numbers of a sample are for.
const FOR_IMAGE: u64 = 0;
const FOR_TEXT: u64 = 1;
const FOR_QUESTIONS: u64 = 2;
const FOR_SECOND_IMAGE: u64 = 3;

/// All that threads share.
pub(super) struct Shared {
    pub(super) mixture: Mixture,
    pub(super) options: LoaderOptions,
    normalizer: Normalizer,
    /// The orders of the latest epochs: threads may work at two at once.
    orders: Mutex<VecDeque<(u64, Arc<Vec<u32>>)>>,
    cache: Mutex<Cache>,
    failures: Mutex<BTreeMap<usize, String>>,
}

/// Decoded images by sample number. Nothing is ever pushed out: an epoch visits all samples, so the oldest is as
/// likely to be needed next as any other.
#[derive(Default)]
struct Cache {
    images: HashMap<usize, Arc<Decoded>>,
    bytes: usize,
}

/// A sample whose image is decoded.
struct Decoded {
    key: String,
    texts: Vec<String>,
    label: Option<i64>,
    class_name: Option<String>,
    questions: Vec<Question>,
    image: RgbImage,
    second_image: Option<RgbImage>,
}

/// What was fetched for a batch, or why it could not be.
type Fetched = HashMap<usize, Result<Sample, String>>;

/// Locks; what a thread leaves behind when it panics is still whole, since each change here is a single step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Checks what is asked for.
    pub(super) fn new(mixture: Mixture, options: LoaderOptions) -> Result<Self, DataError> {
        let fail = |option, problem: String| Err(DataError::Option { option, problem });
        options.augment.validate()?;
        if options.batch_size == 0 || options.image_size == 0 || options.cache_side == Some(0) {
            return fail("batch_size, image_size, cache_side", "must be at least 1".into());
        }
        if let Some(std) = options.std.iter().find(|&&std| std.is_nan() || std <= 0.0) {
            return fail("std", format!("must be above 0, got {std}"));
        }
        let samples = mixture.samples_per_epoch;
        if samples < if options.drop_last { options.batch_size } else { 1 } {
            let problem = format!("an epoch has {samples} samples, which do not fill a batch");
            return fail("batch_size", format!("{}: {problem}", options.batch_size));
        }
        let normalizer = Normalizer::new(options.mean, options.std);
        let (orders, cache, failures) = Default::default();
        Ok(Self { mixture, options, normalizer, orders, cache, failures })
    }

    /// The samples that could not be used so far.
    pub(super) fn failures(&self) -> Vec<Failure> {
        let failures = lock(&self.failures);
        let describe = |(&sample, reason): (&usize, &String)| {
            let source = self.mixture.source_of(sample);
            let (dataset, index) = (source.dataset.name().to_owned(), sample - source.first);
            Failure { dataset, index, reason: reason.clone() }
        };
        failures.iter().map(describe).collect()
    }

    pub(super) fn failure_count(&self) -> u64 {
        lock(&self.failures).len() as u64
    }

    pub(super) fn batches_per_epoch(&self) -> u64 {
        let (samples, size) = (self.mixture.samples_per_epoch, self.options.batch_size);
        (if self.options.drop_last { samples / size } else { samples.div_ceil(size) }) as u64
    }

    /// The order of an epoch.
    pub(super) fn order(&self, epoch: u64) -> Arc<Vec<u32>> {
        let mut orders = lock(&self.orders);
        if let Some((_, order)) = orders.iter().find(|(of, _)| *of == epoch) {
            return order.clone();
        }
        let order = Arc::new(self.mixture.order(self.options.seed, epoch, self.options.shuffle));
        orders.push_front((epoch, order.clone()));
        orders.truncate(2);
        order
    }

    /// Makes a batch.
    pub(super) fn batch(&self, epoch: u64, index: u64) -> Result<Batch, DataError> {
        let options = &self.options;
        let count = self.batches_per_epoch();
        if index >= count {
            let problem = format!("{index} asked of an epoch of {count} batches");
            return Err(DataError::Option { option: "batch", problem });
        }
        let order = self.order(epoch);
        let start = index as usize * options.batch_size;
        let chosen = &order[start..order.len().min(start + options.batch_size)];
        let values = 3 * options.image_size * options.image_size;
        let mut batch = Batch {
            pixel_values: vec![0.0; chosen.len() * values],
            second_pixel_values: vec![0.0; if options.two_images { chosen.len() * values } else { 0 }],
            texts: Vec::with_capacity(chosen.len()),
            captions: Vec::with_capacity(chosen.len()),
            questions: Vec::with_capacity(chosen.len()),
            keys: Vec::with_capacity(chosen.len()),
            labels: Vec::with_capacity(chosen.len()),
            class_names: Vec::with_capacity(chosen.len()),
            indices: Vec::with_capacity(chosen.len()),
            epoch,
            index,
        };
        let outputs = batch.pixel_values.chunks_exact_mut(values);
        let mut second_outputs = batch.second_pixel_values.chunks_exact_mut(values);
        let mut fetched = Fetched::new();
        for (place, (&wanted, output)) in chosen.iter().zip(outputs).enumerate() {
            if place.is_multiple_of(FETCHED) {
                fetched = self.fetch(&chosen[place..chosen.len().min(place + FETCHED)]);
            }
            let (sample, decoded) = self.load_usable(wanted as usize, &mut fetched)?;
            let random = |purpose| Rng::new(&[options.seed, epoch, (start + place) as u64, purpose]);
            let varied = |image: &RgbImage, purpose, output: &mut [f32]| {
                let (normalizer, size) = (&self.normalizer, options.image_size);
                options.augment.image(image, normalizer, size, &mut random(purpose), output);
            };
            varied(&decoded.image, FOR_IMAGE, output);
            if let (Some(image), Some(output)) = (&decoded.second_image, second_outputs.next()) {
                varied(image, FOR_SECOND_IMAGE, output);
            }
            let most = options.texts_per_sample;
            let texts = options.augment.texts(&decoded.texts, most, &mut random(FOR_TEXT));
            batch.texts.push(texts.first().cloned().unwrap_or_default());
            batch.captions.push(texts);
            batch.questions.push(random(FOR_QUESTIONS).some_of(&decoded.questions, most));
            batch.keys.push(decoded.key.clone());
            batch.labels.push(decoded.label);
            batch.class_names.push(decoded.class_name.clone());
            batch.indices.push(sample);
        }
        Ok(batch)
    }

    /// The sample, or the next one of its data set that can be used. The next one in the order of the epoch would
    /// often stand in the same batch, where the same pair twice misleads a contrastive loss.
    fn load_usable(&self, wanted: usize, fetched: &mut Fetched) -> Result<(usize, Arc<Decoded>), DataError> {
        let source = self.mixture.source_of(wanted);
        let len = source.dataset.len();
        let most = len.min(MAX_BROKEN_IN_A_ROW);
        let mut first_reason = None;
        for step in 0..most {
            let sample = source.first + (wanted - source.first + step) % len;
            match self.load(source, sample, fetched.remove(&sample)) {
                Ok(decoded) => return Ok((sample, decoded)),
                Err(reason) => {
                    first_reason.get_or_insert(reason);
                }
            }
        }
        let name = source.dataset.name().to_owned();
        Err(DataError::AllBroken { name, count: most, reason: first_reason.unwrap_or_default() })
    }

    /// Reads those of these samples that lie behind a network and are not at hand, several at once.
    fn fetch(&self, samples: &[u32]) -> Fetched {
        let is_wanted = |sample: &usize| {
            self.mixture.source_of(*sample).dataset.is_remote()
                && !lock(&self.cache).images.contains_key(sample)
                && !lock(&self.failures).contains_key(sample)
        };
        let wanted: Vec<usize> = samples.iter().map(|&sample| sample as usize).filter(is_wanted).collect();
        let numbered = |&sample: &usize| (sample, read(self.mixture.source_of(sample), sample));
        parallel::map(&wanted, REQUESTS, numbered).into_iter().collect()
    }

    /// Reads, unless it was fetched, and decodes a sample, unless it is at hand or known to be broken.
    fn load(
        &self,
        source: &Source,
        sample: usize,
        fetched: Option<Result<Sample, String>>,
    ) -> Result<Arc<Decoded>, String> {
        if let Some(decoded) = lock(&self.cache).images.get(&sample) {
            return Ok(decoded.clone());
        }
        if let Some(reason) = lock(&self.failures).get(&sample) {
            return Err(reason.clone());
        }
        let decoded = fetched
            .unwrap_or_else(|| read(source, sample))
            .and_then(|sample| caught(|| self.decode(sample)))
            .inspect_err(|reason| {
                lock(&self.failures).insert(sample, reason.clone());
            })?;
        let decoded = Arc::new(decoded);
        lock(&self.cache).offer(sample, &decoded, self.options.cache_bytes);
        Ok(decoded)
    }

    fn decode(&self, sample: Sample) -> Result<Decoded, String> {
        let fail = |problem: &dyn std::fmt::Display| Err(format!("{}: {problem}", sample.key));
        let asked = self.options.questions_suffice && !sample.questions.is_empty();
        if self.options.require_text && sample.texts.is_empty() && !asked {
            return fail(&"has no text, nor a class name with a caption template");
        }
        let image = match self.picture(&sample.image) {
            Ok(image) => image,
            Err(problem) => return fail(&problem),
        };
        let second = sample.second_image.as_deref().filter(|_| self.options.two_images);
        let second_image =
            match (second.map(|image| self.picture(image)).transpose(), self.options.two_images) {
                (Ok(None), true) => return fail(&"has one image, where sentences are about two"),
                (Ok(image), _) => image,
                (Err(problem), _) => return fail(&format!("its second image: {problem}")),
            };
        let Sample { key, texts, label, class_name, questions, .. } = sample;
        Ok(Decoded { key, texts, label, class_name, questions, image, second_image })
    }

    /// An image as it is kept, or what is wrong with it.
    fn picture(&self, encoded: &[u8]) -> Result<RgbImage, String> {
        let image = decode_rgb(encoded).map_err(|error| error.to_string())?;
        let (width, height) = (image.width, image.height);
        if width.min(height).saturating_mul(MAX_ASPECT) < width.max(height) || width.min(height) == 0 {
            return Err(format!("its shape of {width} x {height} pixels cannot be used"));
        }
        match self.options.cache_side {
            Some(side) if side < width.min(height) => {
                let (width, height) = shortest_edge_to(width, height, side);
                Ok(resize(&image, width, height, Interpolation::Bicubic))
            }
            _ => Ok(image),
        }
    }
}

/// Reads a sample by its number in the mixture.
fn read(source: &Source, sample: usize) -> Result<Sample, String> {
    caught(|| source.dataset.get(sample - source.first).map_err(|error| error.to_string()))
}

/// What is done, or that it panicked.
fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    guarded(work).unwrap_or_else(|_| Err("the decoder panicked: this is a bug".into()))
}

impl Cache {
    /// Keeps a sample if there is room for it.
    fn offer(&mut self, sample: usize, decoded: &Arc<Decoded>, limit: usize) {
        let texts: usize = decoded.texts.iter().map(|text| size_of::<String>() + text.len()).sum();
        let answers = |question: &Question| {
            question.answers.iter().map(|a| size_of::<String>() + a.len()).sum::<usize>()
        };
        let questions: usize =
            decoded.questions.iter().map(|q| size_of::<Question>() + q.question.len() + answers(q)).sum();
        let images =
            decoded.image.data.len() + decoded.second_image.as_ref().map_or(0, |image| image.data.len());
        let bytes = size_of::<Decoded>() + images + decoded.key.len() + texts + questions;
        if self.bytes + bytes <= limit && self.images.insert(sample, decoded.clone()).is_none() {
            self.bytes += bytes;
        }
    }
}
