//! Batches for training: shuffled, decoded and augmented by background threads.
//!
//! A batch is decided by the seed, its epoch and its number in the epoch, and by nothing else: not by the number of
//! threads, nor by what was read before. So the pair (epoch, batch) is all there is to save.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::augment::interim::{decode, resize};
use crate::augment::{Augment, Normalizer, shorter_side_to};
use crate::dataset::{self, DataError, Dataset, DatasetSpec};
use crate::image::RgbImage;
use crate::rng::Rng;

/// So many samples in a row that cannot be used mean that a data set is no good.
const MAX_BROKEN_IN_A_ROW: usize = 1000;

/// Images longer than this times their shorter side are not used: their square would be a blur or a sliver.
const MAX_ASPECT: usize = 100;

/// What the random numbers of a sample are for.
const FOR_IMAGE: u64 = 0;
const FOR_TEXT: u64 = 1;

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
    #[allow(clippy::excessive_precision)] // as published
    fn default() -> Self {
        Self {
            batch_size: 32,
            seed: 0,
            shuffle: true,
            drop_last: true,
            require_text: true,
            image_size: 224,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
            augment: Augment::default(),
            threads: 1,
            prefetch: 2,
            cache_bytes: 0,
            cache_side: None,
        }
    }
}

/// Samples that are learnt from together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Normalised images: (sample, channel, row, column).
    pub pixel_values: Vec<f32>,
    /// A text for each sample.
    pub texts: Vec<String>,
    /// The names of the samples.
    pub keys: Vec<String>,
    /// The numbers of their classes.
    pub labels: Vec<Option<i64>>,
    /// Their numbers, counted through all data sets in order.
    pub indices: Vec<usize>,
    /// The pass over the data that it belongs to, from 0.
    pub epoch: u64,
    /// Its number in the epoch, from 0.
    pub index: u64,
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

/// Makes batches of one or several data sets. Clones share the cache and the list of failures.
#[derive(Clone)]
pub struct Loader {
    shared: Arc<Shared>,
}

struct Shared {
    sources: Vec<Source>,
    samples_per_epoch: usize,
    options: LoaderOptions,
    normalizer: Normalizer,
    /// The orders of the latest epochs: threads may work at two at once.
    orders: Mutex<VecDeque<(u64, Arc<Vec<u32>>)>>,
    cache: Mutex<Cache>,
    failures: Mutex<BTreeMap<usize, String>>,
}

/// A data set of the mixture.
struct Source {
    dataset: Box<dyn Dataset>,
    /// Number of its first sample in the mixture.
    first: usize,
    /// Its samples in an epoch.
    per_epoch: usize,
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
    image: RgbImage,
}

impl Loader {
    /// Opens these data sets and mixes them by their weights.
    pub fn open(specs: &[DatasetSpec], options: LoaderOptions) -> Result<Self, DataError> {
        let open = |spec: &DatasetSpec| Ok((dataset::open(spec)?, spec.weight));
        Self::new(specs.iter().map(open).collect::<Result<_, DataError>>()?, options)
    }

    /// Mixes these data sets; a sample occurs in an epoch as often as the weight says.
    pub fn new(datasets: Vec<(Box<dyn Dataset>, f64)>, options: LoaderOptions) -> Result<Self, DataError> {
        let fail = |option, problem: String| Err(DataError::Option { option, problem });
        options.augment.validate()?;
        if options.batch_size == 0 || options.image_size == 0 || options.cache_side == Some(0) {
            return fail("batch_size, image_size, cache_side", "must be at least 1".into());
        }
        if let Some(std) = options.std.iter().find(|&&std| std.is_nan() || std <= 0.0) {
            return fail("std", format!("must be above 0, got {std}"));
        }
        let mut sources = Vec::new();
        let (mut samples, mut samples_per_epoch) = (0, 0);
        for (dataset, weight) in datasets {
            if !(weight > 0.0 && weight <= 1e6) {
                return fail("weight", format!("must be above 0 and at most 1000000, got {weight}"));
            }
            let len = dataset.len();
            let per_epoch = (len as f64 * weight).round() as usize;
            sources.push(Source { dataset, first: samples, per_epoch });
            samples += len;
            samples_per_epoch += per_epoch;
        }
        if samples_per_epoch.max(samples) > u32::MAX as usize {
            return fail("datasets", format!("at most {} samples, got {samples}", u32::MAX));
        }
        if samples_per_epoch < if options.drop_last { options.batch_size } else { 1 } {
            let problem = format!("an epoch has {samples_per_epoch} samples, which do not fill a batch");
            return fail("batch_size", format!("{}: {problem}", options.batch_size));
        }
        let normalizer = Normalizer::new(options.mean, options.std);
        let shared = Shared {
            sources,
            samples_per_epoch,
            options,
            normalizer,
            orders: Mutex::default(),
            cache: Mutex::default(),
            failures: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Samples in an epoch.
    pub fn samples_per_epoch(&self) -> usize {
        self.shared.samples_per_epoch
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
        let failures = lock(&self.shared.failures);
        let describe = |(&sample, reason): (&usize, &String)| {
            let source = self.shared.source_of(sample);
            let (dataset, index) = (source.dataset.name().to_owned(), sample - source.first);
            Failure { dataset, index, reason: reason.clone() }
        };
        failures.iter().map(describe).collect()
    }

    /// How many samples could not be used so far.
    pub fn failure_count(&self) -> u64 {
        lock(&self.shared.failures).len() as u64
    }
}

/// Locks; what a thread leaves behind when it panics is still whole, since each change here is a single step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn batches_per_epoch(&self) -> u64 {
        let (samples, size) = (self.samples_per_epoch, self.options.batch_size);
        (if self.options.drop_last { samples / size } else { samples.div_ceil(size) }) as u64
    }

    /// The data set of a sample of the mixture.
    fn source_of(&self, sample: usize) -> &Source {
        &self.sources[self.sources.partition_point(|source| source.first <= sample) - 1]
    }

    /// The samples of an epoch in order.
    fn order(&self, epoch: u64) -> Arc<Vec<u32>> {
        let mut orders = lock(&self.orders);
        if let Some((_, order)) = orders.iter().find(|(of, _)| *of == epoch) {
            return order.clone();
        }
        let seed = self.options.seed;
        let mut order = Vec::with_capacity(self.samples_per_epoch);
        for source in &self.sources {
            let all = source.first as u32..(source.first + source.dataset.len()) as u32;
            let whole = source.per_epoch / all.len();
            (0..whole).for_each(|_| order.extend(all.clone()));
            let rest = source.per_epoch % all.len();
            if rest > 0 {
                let mut some: Vec<u32> = all.collect();
                Rng::new(&[seed, epoch, source.first as u64]).shuffle(&mut some);
                some[..rest].sort_unstable();
                order.extend(&some[..rest]);
            }
        }
        if self.options.shuffle {
            Rng::new(&[seed, epoch]).shuffle(&mut order);
        }
        let order = Arc::new(order);
        orders.push_front((epoch, order.clone()));
        orders.truncate(2);
        order
    }

    fn batch(&self, epoch: u64, index: u64) -> Result<Batch, DataError> {
        let options = &self.options;
        let count = self.batches_per_epoch();
        if index >= count {
            let problem = format!("{index} asked of an epoch of {count} batches");
            return Err(DataError::Option { option: "batch", problem });
        }
        let order = self.order(epoch);
        let start = index as usize * options.batch_size;
        let chosen = &order[start..order.len().min(start + options.batch_size)];
        let mut batch = Batch {
            pixel_values: vec![0.0; chosen.len() * 3 * options.image_size * options.image_size],
            texts: Vec::with_capacity(chosen.len()),
            keys: Vec::with_capacity(chosen.len()),
            labels: Vec::with_capacity(chosen.len()),
            indices: Vec::with_capacity(chosen.len()),
            epoch,
            index,
        };
        let outputs = batch.pixel_values.chunks_exact_mut(3 * options.image_size * options.image_size);
        for (place, (&wanted, output)) in chosen.iter().zip(outputs).enumerate() {
            let (sample, decoded) = self.load_usable(wanted as usize)?;
            let random = |purpose| Rng::new(&[options.seed, epoch, (start + place) as u64, purpose]);
            options.augment.image(
                &decoded.image,
                &self.normalizer,
                options.image_size,
                &mut random(FOR_IMAGE),
                output,
            );
            let text = options.augment.text(&decoded.texts, &mut random(FOR_TEXT));
            batch.texts.push(text.unwrap_or_default());
            batch.keys.push(decoded.key.clone());
            batch.labels.push(decoded.label);
            batch.indices.push(sample);
        }
        Ok(batch)
    }

    /// The sample, or the next one of its data set that can be used. The next one in the order of the epoch would
    /// often stand in the same batch, where the same pair twice misleads a contrastive loss.
    fn load_usable(&self, wanted: usize) -> Result<(usize, Arc<Decoded>), DataError> {
        let source = self.source_of(wanted);
        let len = source.dataset.len();
        let most = len.min(MAX_BROKEN_IN_A_ROW);
        let mut first_reason = None;
        for step in 0..most {
            let sample = source.first + (wanted - source.first + step) % len;
            match self.load(source, sample) {
                Ok(decoded) => return Ok((sample, decoded)),
                Err(reason) => {
                    first_reason.get_or_insert(reason);
                }
            }
        }
        let name = source.dataset.name().to_owned();
        Err(DataError::AllBroken { name, count: most, reason: first_reason.unwrap_or_default() })
    }

    /// Reads and decodes a sample unless it is at hand or known to be broken.
    fn load(&self, source: &Source, sample: usize) -> Result<Arc<Decoded>, String> {
        if let Some(decoded) = lock(&self.cache).images.get(&sample) {
            return Ok(decoded.clone());
        }
        if let Some(reason) = lock(&self.failures).get(&sample) {
            return Err(reason.clone());
        }
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decode(source, sample - source.first)))
            .unwrap_or_else(|_| Err("the decoder panicked".into()))
            .inspect_err(|reason| {
                lock(&self.failures).insert(sample, reason.clone());
            })?;
        let decoded = Arc::new(decoded);
        lock(&self.cache).offer(sample, &decoded, self.options.cache_bytes);
        Ok(decoded)
    }

    fn decode(&self, source: &Source, index: usize) -> Result<Decoded, String> {
        let sample = source.dataset.get(index).map_err(|error| error.to_string())?;
        let fail = |problem: &dyn std::fmt::Display| Err(format!("{}: {problem}", sample.key));
        if self.options.require_text && sample.texts.is_empty() {
            return fail(&"has no text, nor a class name with a caption template");
        }
        let mut image = match decode(&sample.image) {
            Ok(image) => image,
            Err(error) => return fail(&error),
        };
        let (width, height) = (image.width, image.height);
        if width.min(height).saturating_mul(MAX_ASPECT) < width.max(height) || width.min(height) == 0 {
            return fail(&format!("its shape of {width} x {height} pixels cannot be used"));
        }
        if let Some(side) = self.options.cache_side
            && side < width.min(height)
        {
            let (width, height) = shorter_side_to(width, height, side);
            image = resize(&image, width, height);
        }
        Ok(Decoded { key: sample.key, texts: sample.texts, label: sample.label, image })
    }
}

impl Cache {
    /// Keeps a sample if there is room for it.
    fn offer(&mut self, sample: usize, decoded: &Arc<Decoded>, limit: usize) {
        let texts: usize = decoded.texts.iter().map(|text| size_of::<String>() + text.len()).sum();
        let bytes = size_of::<Decoded>() + decoded.image.data.len() + decoded.key.len() + texts;
        if self.bytes + bytes <= limit && self.images.insert(sample, decoded.clone()).is_none() {
            self.bytes += bytes;
        }
    }
}

/// Batches in order, prepared ahead. Dropping it ends its threads.
pub struct Batches {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
    /// Numbers of batches run through all epochs.
    next: u64,
    end: u64,
}

/// Where threads hand over finished batches.
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

struct QueueState {
    ready: BTreeMap<u64, Result<Batch, DataError>>,
    /// The next batch that a thread takes up.
    next: u64,
    /// No batch from here on is begun yet.
    limit: u64,
    stopped: bool,
}

impl Batches {
    fn new(shared: Arc<Shared>, epoch: u64, first: u64, end: u64) -> Self {
        let threads = shared.options.threads;
        let ahead = shared.options.prefetch.max(threads) as u64;
        let next = epoch.saturating_mul(shared.batches_per_epoch()).saturating_add(first).min(end);
        let limit = next.saturating_add(ahead).min(end);
        let state = QueueState { ready: BTreeMap::new(), next, limit, stopped: false };
        let queue = Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new() });
        let worker = |_| {
            let (shared, queue) = (shared.clone(), queue.clone());
            std::thread::Builder::new().name("loader".into()).spawn(move || queue.work(&shared)).ok()
        };
        // Where no thread can be had, batches are made when asked for.
        let workers = (0..threads).filter_map(worker).collect();
        Self { shared, queue, workers, next, end }
    }
}

impl Queue {
    /// Prepares batches until told to stop.
    fn work(&self, shared: &Shared) {
        let mut state = lock(&self.state);
        while !state.stopped {
            if state.next == state.limit {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let number = state.next;
            state.next += 1;
            drop(state);
            let (epoch, index) = (number / shared.batches_per_epoch(), number % shared.batches_per_epoch());
            let batch = catch_unwind(AssertUnwindSafe(|| shared.batch(epoch, index)))
                .unwrap_or(Err(DataError::Panicked { epoch, index }));
            state = lock(&self.state);
            state.ready.insert(number, batch);
            self.changed.notify_all();
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.end {
            return None;
        }
        let number = self.next;
        self.next += 1;
        if self.workers.is_empty() {
            let count = self.shared.batches_per_epoch();
            return Some(self.shared.batch(number / count, number % count));
        }
        let mut state = lock(&self.queue.state);
        loop {
            if let Some(batch) = state.ready.remove(&number) {
                state.limit = state.limit.saturating_add(1).min(self.end);
                self.queue.changed.notify_all();
                return Some(batch);
            }
            state = self.queue.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        lock(&self.queue.state).stopped = true;
        self.queue.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A panic in it has been reported where its batch was asked for.
            let _ = worker.join();
        }
    }
}
