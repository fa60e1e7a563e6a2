//! Training of BLIP to tell whether sentences about two images are true (NLVR2).
//!
//! Reference: salesforce/BLIP `models/blip_nlvr.py`, `train_nlvr.py`, `data/nlvr_dataset.py`.

use std::path::Path;

use tuwen_data::dataset;
use tuwen_data::loader::{Batch, Loader, LoaderOptions};
use tuwen_data::rng::Rng;
use tuwen_models::TokenIds;
use tuwen_models::blip::{Blip, BlipConfig};
use tuwen_nn::{Parameters, Pass};
use tuwen_tensor::{Gradients, Targets, Tensor, no_grad, ops};

use super::{GroundedPreparation, Place, export};
use crate::data::{Images, Parts};
use crate::objective::{Loss, Objective, gradients_of};
use crate::recipe::{Blip as Settings, Eval, EvalKind, ExportType};
use crate::{BatchSource, Metrics, Recipe, Sources, TrainError};

/// The name of the loss in the log.
const NLVR2: &str = "nlvr2";
/// Sentences that are judged together to be measured.
const BATCH: usize = 16;

/// Sentences about two images each, in parts that go through the network one at a time.
pub struct JudgedBatch {
    /// The parts.
    pub parts: Vec<Judged>,
    /// Where in the run it stands.
    pub place: Place,
}

/// Sentences about two images each.
pub struct Judged {
    /// `[2 · sentences, 3, size, size]`: first the images on the left, then those on the right.
    pub pixel_values: Tensor,
    /// `[sentences, tokens]`.
    pub sentences: TokenIds,
    /// For each 1 if it is true, else 0.
    pub targets: Vec<u32>,
}

/// A BLIP that judges sentences.
pub struct Judge {
    blip: Blip,
    config: BlipConfig,
    preparation: GroundedPreparation,
    settings: Settings,
    seed: u64,
    notes: Vec<String>,
}

impl Judge {
    /// Trains `blip`, which was made from `config` for this task.
    pub fn new(blip: Blip, config: BlipConfig, preparation: GroundedPreparation, recipe: &Recipe) -> Self {
        let settings = recipe.blip.clone();
        Self { blip, config, preparation, settings, seed: recipe.seed, notes: Vec::new() }
    }

    /// With what is to be said of the network before it learns.
    #[must_use]
    pub fn with_notes(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }

    /// The network.
    pub fn blip(&self) -> &Blip {
        &self.blip
    }

    /// The cross entropy of a part, which is such a share of its batch; nothing of a network for another task.
    fn loss(&self, part: &Judged, share: f32, pass: &Pass) -> Vec<Loss> {
        let logits = self.blip.nlvr().map(|nlvr| nlvr.forward(&part.pixel_values, &part.sentences, pass));
        let loss = |logits: Tensor| ops::cross_entropy(&logits, Targets::Classes(&part.targets));
        logits.map(|logits| (NLVR2, ops::scale(&loss(logits), share))).into_iter().collect()
    }

    /// Each part with its share of the batch, and the pass that it goes through the network with.
    fn parts<'b>(
        &'b self,
        batch: &'b JudgedBatch,
        pass: &'b Pass,
    ) -> impl Iterator<Item = (&'b Judged, f32, Pass)> {
        let all: usize = batch.parts.iter().map(|part| part.targets.len()).sum();
        batch.parts.iter().zip(0..).map(move |(part, number)| {
            let seed = batch.place.random(self.seed, &[0, number]).next_u64();
            let share = part.targets.len() as f32 / all.max(1) as f32;
            (part, share, super::settings_pass(&self.settings, pass, seed))
        })
    }
}

impl Objective for Judge {
    type Batch = JudgedBatch;

    fn parameters(&self) -> &Parameters {
        self.blip.parameters()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn optimizer_settings(&self, recipe: &Recipe) -> crate::Settings {
        super::settings_of_blip(recipe)
    }

    fn losses(&self, batch: &JudgedBatch, pass: &Pass) -> Result<Vec<Loss>, TrainError> {
        Ok(self.parts(batch, pass).flat_map(|(part, share, pass)| self.loss(part, share, &pass)).collect())
    }

    /// One part is on the tape at a time.
    fn gradients(&self, batch: &JudgedBatch, pass: &Pass) -> Result<(Metrics, Gradients), TrainError> {
        let (mut metrics, mut gradients) = (Metrics::new(), Gradients::default());
        for (part, share, pass) in self.parts(batch, pass) {
            let (losses, of_part) = gradients_of(self.loss(part, share, &pass));
            losses.into_iter().for_each(|(name, loss)| *metrics.entry(name).or_default() += loss);
            gradients.accumulate(of_part);
        }
        Ok((metrics, gradients))
    }

    /// How many sentences are judged rightly, in percent. (The original program swaps images at random here too.)
    fn evaluate(&self, recipe: &Recipe, eval: &Eval) -> Result<Metrics, TrainError> {
        let fail = |reason: &str| TrainError::Eval { eval: eval.name(), reason: reason.into() };
        let nlvr = self.blip.nlvr().filter(|_| eval.kind == EvalKind::Nlvr2);
        let nlvr = nlvr.ok_or_else(|| fail("a network for NLVR2 has the evaluation \"nlvr2\" alone"))?;
        let transform = &self.preparation.processor.transform;
        let options = LoaderOptions {
            batch_size: BATCH,
            shuffle: false,
            drop_last: false,
            two_images: true,
            image_size: self.preparation.image_size,
            mean: transform.mean,
            std: transform.std,
            augment: super::evaluation::as_evaluated(),
            threads: recipe.train.threads,
            ..LoaderOptions::default()
        };
        let loader = Loader::new(vec![(dataset::open(&recipe.dataset(&eval.dataset()))?, 1.0)], options)?;
        let (mut right, mut all) = (0, 0);
        for batch in loader.epoch(0, 0) {
            let part = judged(&batch?, &self.preparation, None)?;
            let logits = no_grad(|| nlvr.forward(&part.pixel_values, &part.sentences, &Pass::eval()));
            let says_yes =
                logits.to_vec().chunks_exact(2).map(|logits| logits[1] > logits[0]).collect::<Vec<_>>();
            right +=
                says_yes.iter().zip(&part.targets).filter(|(yes, target)| **yes == (**target == 1)).count();
            all += part.targets.len();
        }
        let accuracy = 100.0 * right as f64 / all.max(1) as f64;
        Ok(Metrics::from([("accuracy".to_owned(), accuracy), ("sentences".to_owned(), all as f64)]))
    }

    fn export(&self, directory: &Path, dtype: ExportType) -> Result<(), TrainError> {
        export::write(&self.blip, &self.config, &self.preparation, directory, dtype)
    }
}

/// Sentences of a batch as the network takes them. With random numbers, the images of each are swapped or not.
fn judged(
    batch: &Batch,
    preparation: &GroundedPreparation,
    mut random: Option<Rng>,
) -> Result<Judged, TrainError> {
    let (count, size) = (batch.keys.len(), preparation.image_size);
    let [mut left, mut right] = [&batch.pixel_values, &batch.second_pixel_values].map(Clone::clone);
    let mut sentences: Vec<String> = batch.texts.iter().map(|text| preparation.caption(text)).collect();
    let values = left.len() / count.max(1);
    let pairs = left.chunks_exact_mut(values.max(1)).zip(right.chunks_exact_mut(values.max(1)));
    for ((left, right), sentence) in pairs.zip(&mut sentences) {
        if random.as_mut().is_some_and(|random| random.chance(0.5)) {
            left.swap_with_slice(right);
            *sentence = mirrored(sentence);
        }
    }
    let label = |row: usize| match batch.labels[row] {
        Some(label @ 0..=1) => Ok(label as u32),
        label => Err(TrainError::UnknownClass {
            key: batch.keys[row].clone(),
            class: label.map(|label| label.to_string()),
        }),
    };
    Ok(Judged {
        pixel_values: Tensor::new(&[left, right].concat(), &[2 * count, 3, size, size]),
        sentences: preparation.beside_images(&sentences)?,
        targets: (0..count).map(label).collect::<Result<_, _>>()?,
    })
}

/// A sentence that is as true of the images in the other order: "left" and "right" change places.
fn mirrored(sentence: &str) -> String {
    let other = |word| match word {
        "left" => "right",
        "right" => "left",
        word => word,
    };
    sentence.split(' ').map(other).collect::<Vec<_>>().join(" ")
}

/// Sentences of the recipe's data sets in batches.
pub struct JudgedData {
    parts: Parts,
    preparation: GroundedPreparation,
    seed: u64,
}

impl JudgedData {
    /// Mixes the data sets of a recipe.
    ///
    /// # Errors
    /// Weights that leave nothing, or data that do not fill a batch.
    pub fn new(
        recipe: &Recipe,
        sources: &Sources,
        preparation: GroundedPreparation,
    ) -> Result<Self, TrainError> {
        let images = Images::of_grounded(&preparation);
        let parts = Parts::new(recipe, sources, images, |options| options.two_images = true)?;
        Ok(Self { parts, preparation, seed: recipe.seed })
    }
}

impl BatchSource for JudgedData {
    type Batch = JudgedBatch;

    fn batches_per_epoch(&self) -> u64 {
        self.parts.batches_per_epoch()
    }

    fn epoch(&self, epoch: u64, first: u64) -> Box<dyn Iterator<Item = Result<JudgedBatch, TrainError>>> {
        let (preparation, seed) = (self.preparation.clone(), self.seed);
        let batches_per_epoch = self.batches_per_epoch();
        Box::new(self.parts.epoch(epoch, first).zip(first..).map(move |(parts, batch)| {
            let place = Place { epoch, batch, batches_per_epoch };
            let part = |(part, number): (Batch, u64)| {
                judged(&part, &preparation, Some(place.random(seed, &[3, number])))
            };
            Ok(JudgedBatch { parts: parts?.into_iter().zip(0..).map(part).collect::<Result<_, _>>()?, place })
        }))
    }

    fn loader(&self) -> Option<&Loader> {
        Some(self.parts.loader())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_change_places_as_whole_words() {
        assert_eq!(
            mirrored("the left one is right of the leftmost"),
            "the right one is left of the leftmost"
        );
    }
}
