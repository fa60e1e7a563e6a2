//! Images with captions and questions in batches, as BLIP learns from them.

use std::sync::Arc;

use tuwen_data::loader::{Batch, Loader};
use tuwen_tensor::Tensor;

use super::{GroundedBatch, GroundedPart, GroundedPreparation, Keys, Place};
use crate::data::{Images, Parts};
use crate::distillation::Distillation;
use crate::recipe::{Blip, Task};
use crate::{BatchSource, Recipe, Sources, TrainError};

/// Samples of the recipe's data sets in batches.
pub struct GroundedData {
    parts: Parts,
    preparation: GroundedPreparation,
    settings: Blip,
    distillation: Option<Arc<Distillation>>,
}

impl GroundedData {
    /// Mixes the data sets of a recipe, for a network whose vectors have `dim` numbers.
    ///
    /// # Errors
    /// Weights that leave nothing, data that do not fill a batch, or a teacher that does not fit.
    pub fn new(
        recipe: &Recipe,
        sources: &Sources,
        preparation: GroundedPreparation,
        dim: usize,
    ) -> Result<Self, TrainError> {
        let transform = &preparation.processor.transform;
        let distillation = Distillation::open(recipe, transform, preparation.image_size, dim)?;
        let data = Self::with_settings(recipe, sources, preparation, recipe.blip.clone())?;
        Ok(Self { distillation, ..data })
    }

    /// Questions and answers alone, for ALBEF.
    ///
    /// # Errors
    /// As [`GroundedData::new`].
    pub fn of_answers(
        recipe: &Recipe,
        sources: &Sources,
        preparation: GroundedPreparation,
    ) -> Result<Self, TrainError> {
        let texts_per_image = recipe.albef.texts_per_image;
        Self::with_settings(recipe, sources, preparation, answers_alone(texts_per_image))
    }

    fn with_settings(
        recipe: &Recipe,
        sources: &Sources,
        preparation: GroundedPreparation,
        settings: Blip,
    ) -> Result<Self, TrainError> {
        let images = Images::of_grounded(&preparation);
        let parts = Parts::new(recipe, sources, images, |options| {
            options.texts_per_sample = settings.texts_per_image;
            options.questions_suffice = settings.answers();
            // Where only answers are learnt, captions are of no use.
            options.require_text = true;
        })?;
        Ok(Self { parts, preparation, settings, distillation: None })
    }
}

/// What BLIP would learn from questions alone.
pub(super) fn answers_alone(texts_per_image: usize) -> Blip {
    Blip { task: Task::Vqa, texts_per_image, ..Blip::default() }
}

/// A part of a batch as a network takes it.
pub(super) fn part(
    batch: &Batch,
    preparation: &GroundedPreparation,
    settings: &Blip,
) -> Result<GroundedPart, TrainError> {
    part_of(preparation.pixel_values(batch), batch, preparation, settings)
}

/// The same with other pixels than those of the batch.
pub(super) fn part_of(
    pixel_values: Tensor,
    batch: &Batch,
    preparation: &GroundedPreparation,
    settings: &Blip,
) -> Result<GroundedPart, TrainError> {
    let learns_captions = settings.writes() || settings.compares();
    let pairs = match learns_captions {
        true => preparation.pairs(&batch.captions, &batch.class_names, &batch.indices)?,
        false => None,
    };
    let asked = if settings.answers() { preparation.asked(&batch.questions)? } else { None };
    Ok(GroundedPart { pixel_values, pairs, asked })
}

/// What a teacher makes of some images of a batch and of the first caption of each.
fn taught(teacher: &Distillation, batch: &Batch, images: &[u32]) -> Result<Keys, TrainError> {
    let all: Vec<&[f32]> = batch.images().collect();
    let pixels = images.iter().map(|&image| all[image as usize]);
    let captions = images.iter().filter_map(|&image| batch.captions[image as usize].first());
    teacher.look(pixels, captions)
}

impl BatchSource for GroundedData {
    type Batch = GroundedBatch;

    fn batches_per_epoch(&self) -> u64 {
        self.parts.batches_per_epoch()
    }

    fn epoch(&self, epoch: u64, first: u64) -> Box<dyn Iterator<Item = Result<GroundedBatch, TrainError>>> {
        let (preparation, settings) = (self.preparation.clone(), self.settings.clone());
        let distillation = self.distillation.clone();
        let batches_per_epoch = self.batches_per_epoch();
        Box::new(self.parts.epoch(epoch, first).zip(first..).map(move |(parts, batch)| {
            let part = |batch: Batch| {
                let mut part = part(&batch, &preparation, &settings)?;
                if let (Some(teacher), Some(pairs)) = (&distillation, &mut part.pairs) {
                    pairs.taught = Some(taught(teacher, &batch, &pairs.images)?);
                }
                Ok::<_, TrainError>(part)
            };
            let parts = parts?.into_iter().map(part).collect::<Result<_, _>>()?;
            Ok(GroundedBatch { parts, place: Place { epoch, batch, batches_per_epoch } })
        }))
    }

    fn loader(&self) -> Option<&Loader> {
        Some(self.parts.loader())
    }
}
