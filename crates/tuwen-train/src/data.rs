//! Image-text pairs in batches, as contrastive training takes them.

use std::sync::Arc;

use tuwen_data::loader::{Batch, Loader, LoaderOptions, Share};
use tuwen_data::tokenizer::{ClipTokenizer, Overflow};
use tuwen_models::clip::{ClipImageProcessor, TokenIds};
use tuwen_tensor::Tensor;

use crate::contrastive::{ClipBatch, Pairs};
use crate::{BatchSource, Recipe, Sources, TrainError};

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

    fn pairs(&self, batch: &Batch) -> Result<Pairs, TrainError> {
        let shape = [batch.texts.len(), 3, self.image_size, self.image_size];
        let pixel_values = Tensor::new(&batch.pixel_values, &shape);
        Ok(Pairs { pixel_values, tokens: self.tokens(&batch.texts)? })
    }
}

/// Batches of the recipe's data sets, in parts of `micro_batch_size`.
pub struct ContrastiveData {
    /// Gives the parts of batches.
    loader: Loader,
    parts: u64,
    preparation: Preparation,
}

impl ContrastiveData {
    /// Mixes the data sets of a recipe.
    ///
    /// # Errors
    /// Weights that leave nothing, or data that do not fill a batch.
    pub fn new(recipe: &Recipe, sources: &Sources, preparation: Preparation) -> Result<Self, TrainError> {
        let batch_size = recipe.train.batch_size;
        let micro_batch_size = recipe.train.micro_batch_size.unwrap_or(batch_size);
        let options = LoaderOptions {
            batch_size: micro_batch_size,
            seed: recipe.seed,
            image_size: preparation.image_size,
            mean: preparation.processor.transform.mean,
            std: preparation.processor.transform.std,
            augment: recipe.augment.clone(),
            threads: recipe.train.threads,
            prefetch: 2 * recipe.train.threads,
            cache_bytes: recipe.train.cache_megabytes << 20,
            ..LoaderOptions::default()
        };
        let loader = Loader::new(sources.weighted(), options)?;
        let data = Self { loader, parts: (batch_size / micro_batch_size) as u64, preparation };
        if data.batches_per_epoch() < recipe.train.accumulate_steps {
            return Err(TrainError::TooLittleData {
                samples: data.loader.samples_per_epoch(),
                needed: batch_size * recipe.train.accumulate_steps as usize,
            });
        }
        Ok(data)
    }

    /// What each data set gives to an epoch.
    pub fn shares(&self) -> Vec<Share> {
        self.loader.shares()
    }

    /// What could not be read so far, in words.
    pub fn failed_samples(&self) -> Vec<String> {
        let failures = self.loader.failures().into_iter();
        failures.map(|failure| format!("{}: {}", failure.dataset, failure.reason)).collect()
    }
}

impl BatchSource for ContrastiveData {
    type Batch = ClipBatch;

    fn batches_per_epoch(&self) -> u64 {
        self.loader.batches_per_epoch() / self.parts
    }

    fn epoch(&self, epoch: u64, first: u64) -> Box<dyn Iterator<Item = Result<ClipBatch, TrainError>>> {
        let (preparation, parts) = (self.preparation.clone(), self.parts);
        let mut batches = self.loader.epoch(epoch, first * parts);
        let count = self.batches_per_epoch().saturating_sub(first);
        Box::new((0..count).map(move |_| {
            let mut batch = ClipBatch { parts: Vec::new(), meanings: Vec::new() };
            for part in batches.by_ref().take(parts as usize) {
                let part = part?;
                batch.parts.push(preparation.pairs(&part)?);
                let meaning = |(class, text): (Option<String>, String)| class.unwrap_or(text);
                batch.meanings.extend(part.class_names.into_iter().zip(part.texts).map(meaning));
            }
            Ok(batch)
        }))
    }

    fn failures(&self) -> u64 {
        self.loader.failure_count()
    }
}
