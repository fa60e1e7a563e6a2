//! Image-text pairs and labelled images in batches, as training takes them.

use std::sync::Arc;

use tuwen_data::loader::{Batch, Loader, LoaderOptions};
use tuwen_data::tokenizer::{ClipTokenizer, Overflow};
use tuwen_eval::Classes;
use tuwen_models::clip::{ClipImageProcessor, TokenIds};
use tuwen_tensor::Tensor;

use crate::classification::LabelledBatch;
use crate::contrastive::{ClipBatch, Pairs};
use crate::distillation::Distillation;
use crate::{BatchSource, GroundedPreparation, Recipe, Sources, TrainError};

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

    fn pixel_values(&self, batch: &Batch) -> Tensor {
        Tensor::new(&batch.pixel_values, &[batch.keys.len(), 3, self.image_size, self.image_size])
    }
}

/// How images become pixel values.
pub(crate) struct Images {
    /// Side in pixels.
    pub size: usize,
    /// Mean of the colours.
    pub mean: [f32; 3],
    /// Their standard deviation.
    pub std: [f32; 3],
}

impl Images {
    pub(crate) fn of_grounded(preparation: &GroundedPreparation) -> Self {
        let transform = &preparation.processor.transform;
        Self { size: preparation.image_size, mean: transform.mean, std: transform.std }
    }

    fn of(preparation: &Preparation) -> Self {
        let transform = &preparation.processor.transform;
        Self { size: preparation.image_size, mean: transform.mean, std: transform.std }
    }
}

/// Batches of the recipe's data sets, in parts of `micro_batch_size`.
pub(crate) struct Parts {
    /// Gives the parts of batches.
    loader: Loader,
    /// In a batch.
    count: u64,
}

impl Parts {
    /// Mixes the data sets; `change` sets what depends on the objective.
    pub(crate) fn new(
        recipe: &Recipe,
        sources: &Sources,
        images: Images,
        change: impl FnOnce(&mut LoaderOptions),
    ) -> Result<Self, TrainError> {
        let batch_size = recipe.train.batch_size;
        let micro_batch_size = recipe.train.micro_batch_size.unwrap_or(batch_size);
        let mut options = LoaderOptions {
            batch_size: micro_batch_size,
            seed: recipe.seed,
            image_size: images.size,
            mean: images.mean,
            std: images.std,
            augment: recipe.augment.clone(),
            threads: recipe.train.threads,
            prefetch: 2 * recipe.train.threads,
            cache_bytes: recipe.train.cache_megabytes << 20,
            ..LoaderOptions::default()
        };
        change(&mut options);
        let loader = Loader::new(sources.weighted(), options)?;
        let parts = Self { loader, count: (batch_size / micro_batch_size) as u64 };
        if parts.batches_per_epoch() < recipe.train.accumulate_steps {
            return Err(TrainError::TooLittleData {
                samples: parts.loader.samples_per_epoch(),
                needed: batch_size * recipe.train.accumulate_steps as usize,
            });
        }
        Ok(parts)
    }

    pub(crate) fn batches_per_epoch(&self) -> u64 {
        self.loader.batches_per_epoch() / self.count
    }

    /// The parts of each batch of one pass from `first` on.
    pub(crate) fn epoch(
        &self,
        epoch: u64,
        first: u64,
    ) -> impl Iterator<Item = Result<Vec<Batch>, TrainError>> + use<> {
        let parts = self.count;
        let mut batches = self.loader.epoch(epoch, first * parts);
        let count = self.batches_per_epoch().saturating_sub(first);
        (0..count).map(move |_| Ok(batches.by_ref().take(parts as usize).collect::<Result<_, _>>()?))
    }

    pub(crate) fn loader(&self) -> &Loader {
        &self.loader
    }
}

/// Image-text pairs of the recipe's data sets in batches.
pub struct ContrastiveData {
    parts: Parts,
    preparation: Preparation,
    distillation: Option<Arc<Distillation>>,
}

impl ContrastiveData {
    /// Mixes the data sets of a recipe, for a network whose vectors have `dim` numbers.
    ///
    /// # Errors
    /// Weights that leave nothing, data that do not fill a batch, or a teacher that does not fit.
    pub fn new(
        recipe: &Recipe,
        sources: &Sources,
        preparation: Preparation,
        dim: usize,
    ) -> Result<Self, TrainError> {
        let parts = Parts::new(recipe, sources, Images::of(&preparation), |_| ())?;
        let transform = &preparation.processor.transform;
        let distillation = Distillation::open(recipe, transform, preparation.image_size, dim)?;
        Ok(Self { parts, preparation, distillation })
    }
}

impl BatchSource for ContrastiveData {
    type Batch = ClipBatch;

    fn batches_per_epoch(&self) -> u64 {
        self.parts.batches_per_epoch()
    }

    fn epoch(&self, epoch: u64, first: u64) -> Box<dyn Iterator<Item = Result<ClipBatch, TrainError>>> {
        let (preparation, distillation) = (self.preparation.clone(), self.distillation.clone());
        Box::new(self.parts.epoch(epoch, first).map(move |parts| {
            let mut batch = ClipBatch { parts: Vec::new(), meanings: Vec::new() };
            for part in parts? {
                let pixel_values = preparation.pixel_values(&part);
                let tokens = preparation.tokens(&part.texts)?;
                let look = |teacher: &Arc<Distillation>| teacher.look(part.images(), part.texts.iter());
                let taught = distillation.as_ref().map(look).transpose()?;
                batch.parts.push(Pairs { pixel_values, tokens, taught });
                let meaning = |(class, text): (Option<String>, String)| class.unwrap_or(text);
                batch.meanings.extend(part.class_names.into_iter().zip(part.texts).map(meaning));
            }
            Ok(batch)
        }))
    }

    fn loader(&self) -> Option<&Loader> {
        Some(self.parts.loader())
    }
}

/// Labelled images of the recipe's data sets in batches.
pub struct ClassificationData {
    parts: Parts,
    preparation: Preparation,
    classes: Classes,
}

impl ClassificationData {
    /// Mixes the data sets of a recipe, whose samples are of these classes.
    ///
    /// # Errors
    /// As [`ContrastiveData::new`].
    pub fn new(
        recipe: &Recipe,
        sources: &Sources,
        preparation: Preparation,
        classes: Classes,
    ) -> Result<Self, TrainError> {
        let require = |options: &mut LoaderOptions| options.require_text = false;
        let parts = Parts::new(recipe, sources, Images::of(&preparation), require)?;
        Ok(Self { parts, preparation, classes })
    }
}

impl BatchSource for ClassificationData {
    type Batch = LabelledBatch;

    fn batches_per_epoch(&self) -> u64 {
        self.parts.batches_per_epoch()
    }

    fn epoch(&self, epoch: u64, first: u64) -> Box<dyn Iterator<Item = Result<LabelledBatch, TrainError>>> {
        let (classes, preparation) = (self.classes.clone(), self.preparation.clone());
        Box::new(self.parts.epoch(epoch, first).map(move |parts| {
            let labelled = |part: Batch| Ok((preparation.pixel_values(&part), labels(&part, &classes)?));
            Ok(LabelledBatch { parts: parts?.into_iter().map(labelled).collect::<Result<_, TrainError>>()? })
        }))
    }

    fn loader(&self) -> Option<&Loader> {
        Some(self.parts.loader())
    }
}

/// The place of the class of each sample.
fn labels(batch: &Batch, classes: &Classes) -> Result<Vec<u32>, TrainError> {
    let place = |i: usize| {
        let (name, label) = (batch.class_names[i].as_deref(), batch.labels[i]);
        let place = classes.place(name, label).map(|place| place as u32);
        place.ok_or_else(|| TrainError::UnknownClass {
            key: batch.keys[i].clone(),
            class: name.map(str::to_owned).or_else(|| label.map(|label| label.to_string())),
        })
    };
    (0..batch.keys.len()).map(place).collect()
}
