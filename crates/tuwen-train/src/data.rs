//! Image-text pairs and labelled images in batches, as training takes them.

use std::sync::Arc;

use tuwen_data::dataset::{self, DataError, Sample};
use tuwen_data::loader::{Loader, LoaderOptions};
use tuwen_data::tokenizer::{ClipTokenizer, Overflow};
use tuwen_eval::{Classes, EvalError};
use tuwen_models::clip::{ClipImageProcessor, TokenIds};
use tuwen_tensor::Tensor;

use crate::classification::LabelledBatch;
use crate::contrastive::ClipBatch;
use crate::{BatchSource, Recipe, TrainError};

/// How images and texts are brought to the form that a network takes.
#[derive(Clone)]
pub struct Preparation {
    /// Captions to ids.
    pub tokenizer: Arc<ClipTokenizer>,
    /// Most ids of a text, start and end included; longer captions are cut.
    pub context_length: usize,
    /// Side of the images in pixels.
    pub image_size: usize,
    /// Pictures to pixel values; training uses its colours, evaluation all of it.
    pub processor: ClipImageProcessor,
}

impl Preparation {
    /// Token ids of texts.
    pub fn tokens<T: AsRef<str>>(&self, texts: &[T]) -> Result<TokenIds, TrainError> {
        let batch = self.tokenizer.encode_batch(texts, self.context_length, Overflow::Truncate)?;
        Ok(TokenIds { ids: batch.ids, length: batch.context_length, attention_mask: None })
    }
}

/// Batches of the recipe's data sets.
pub struct ContrastiveData {
    loader: Loader,
    preparation: Preparation,
}

impl ContrastiveData {
    /// Opens the data sets of a recipe.
    ///
    /// # Errors
    /// Data that cannot be opened, or that do not fill a batch.
    pub fn open(recipe: &Recipe, preparation: Preparation) -> Result<Self, TrainError> {
        let loader = open_loader(recipe, &preparation, true)?;
        Ok(Self { loader, preparation })
    }
}

/// Opens the data sets of a recipe; a sample without a text is passed over where `require_text`.
fn open_loader(recipe: &Recipe, preparation: &Preparation, require_text: bool) -> Result<Loader, TrainError> {
    let mut specs = recipe.data.clone();
    for spec in &mut specs {
        spec.path = recipe.resolve(&spec.path);
    }
    let options = LoaderOptions {
        batch_size: recipe.train.batch_size,
        seed: recipe.seed,
        require_text,
        image_size: preparation.image_size,
        mean: preparation.processor.transform.mean,
        std: preparation.processor.transform.std,
        augment: recipe.augment.clone(),
        threads: recipe.train.threads,
        prefetch: 2 * recipe.train.threads,
        cache_bytes: recipe.train.cache_megabytes << 20,
        ..LoaderOptions::default()
    };
    let loader = Loader::open(&specs, options)?;
    if loader.batches_per_epoch() == 0 {
        return Err(TrainError::TooLittleData {
            samples: loader.samples_per_epoch(),
            batch_size: recipe.train.batch_size,
        });
    }
    Ok(loader)
}

/// What a loader could not read so far, in words.
fn failed_samples(loader: &Loader) -> Vec<String> {
    let failures = loader.failures().into_iter();
    failures.map(|failure| format!("{}: {}", failure.dataset, failure.reason)).collect()
}

impl BatchSource for ContrastiveData {
    type Batch = ClipBatch;

    fn batches_per_epoch(&self) -> u64 {
        self.loader.batches_per_epoch()
    }

    fn epoch(&self, epoch: u64, first: u64) -> Box<dyn Iterator<Item = Result<ClipBatch, TrainError>>> {
        let preparation = self.preparation.clone();
        Box::new(self.loader.epoch(epoch, first).map(move |batch| {
            let batch = batch?;
            let size = preparation.image_size;
            let shape = [batch.texts.len(), 3, size, size];
            let tokens = preparation.tokens(&batch.texts)?;
            let meaning = |(class, text): (Option<String>, String)| class.unwrap_or(text);
            Ok(ClipBatch {
                pixel_values: Tensor::new(&batch.pixel_values, &shape),
                tokens,
                meanings: batch.class_names.into_iter().zip(batch.texts).map(meaning).collect(),
            })
        }))
    }

    fn failures(&self) -> u64 {
        self.loader.failure_count()
    }

    fn failed_samples(&self) -> Vec<String> {
        failed_samples(&self.loader)
    }
}

/// Labelled images of the recipe's data sets in batches.
pub struct ClassificationData {
    loader: Loader,
    image_size: usize,
    classes: Classes,
}

impl ClassificationData {
    /// Opens the data sets of a recipe, whose samples are of these classes.
    ///
    /// # Errors
    /// Data that cannot be opened, or that do not fill a batch.
    pub fn open(recipe: &Recipe, preparation: &Preparation, classes: Classes) -> Result<Self, TrainError> {
        let loader = open_loader(recipe, preparation, false)?;
        Ok(Self { loader, image_size: preparation.image_size, classes })
    }
}

impl BatchSource for ClassificationData {
    type Batch = LabelledBatch;

    fn batches_per_epoch(&self) -> u64 {
        self.loader.batches_per_epoch()
    }

    fn epoch(&self, epoch: u64, first: u64) -> Box<dyn Iterator<Item = Result<LabelledBatch, TrainError>>> {
        let (classes, size) = (self.classes.clone(), self.image_size);
        Box::new(self.loader.epoch(epoch, first).map(move |batch| {
            let batch = batch?;
            let place = |i: usize| {
                let (name, label) = (batch.class_names[i].as_deref(), batch.labels[i]);
                let place = classes.place(name, label).map(|place| place as u32);
                place.ok_or_else(|| TrainError::UnknownClass {
                    key: batch.keys[i].clone(),
                    class: name.map(str::to_owned).or_else(|| label.map(|label| label.to_string())),
                })
            };
            Ok(LabelledBatch {
                labels: (0..batch.keys.len()).map(place).collect::<Result<_, _>>()?,
                pixel_values: Tensor::new(&batch.pixel_values, &[batch.keys.len(), 3, size, size]),
            })
        }))
    }

    fn failures(&self) -> u64 {
        self.loader.failure_count()
    }

    fn failed_samples(&self) -> Vec<String> {
        failed_samples(&self.loader)
    }
}

/// The classes of the recipe's data sets: those that it names, else those of the samples.
pub fn classes(recipe: &Recipe, named: &[String]) -> Result<Classes, TrainError> {
    if !named.is_empty() {
        return Ok(Classes::from_names(named.to_vec()));
    }
    let mut samples = Vec::new();
    for spec in &recipe.data {
        let mut spec = spec.clone();
        spec.path = recipe.resolve(&spec.path);
        let dataset = dataset::open(&spec)?;
        let readable = (0..dataset.len()).filter_map(|index| dataset.get(index).ok());
        samples.extend(readable.map(|sample| Sample { image: Vec::new(), texts: Vec::new(), ..sample }));
    }
    let fail = |error: EvalError| TrainError::Classes(error.to_string());
    let classes = Classes::of(&samples, "[[data]]").map_err(fail)?;
    if classes.len() < 2 {
        return Err(fail(EvalError::OneClass { data: "[[data]]".into(), count: classes.len() }));
    }
    Ok(classes)
}

/// All captions of the recipe's data sets, from which a vocabulary may be learnt. Samples that cannot be read have
/// none.
pub fn captions(recipe: &Recipe) -> Result<Vec<String>, DataError> {
    let mut captions = Vec::new();
    for spec in &recipe.data {
        let mut spec = spec.clone();
        spec.path = recipe.resolve(&spec.path);
        let dataset = dataset::open(&spec)?;
        captions
            .extend((0..dataset.len()).filter_map(|i| dataset.get(i).ok()).flat_map(|sample| sample.texts));
    }
    Ok(captions)
}
