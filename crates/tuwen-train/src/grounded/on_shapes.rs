//! BLIP and ALBEF on shapes, by which the memory of a run is estimated.

use tuwen_data::dataset::{Question, Sample};
use tuwen_data::loader::{Batch, Survey};
use tuwen_models::albef::{Albef, AlbefConfig, AlbefTask};
use tuwen_models::blip::{Blip, BlipConfig};
use tuwen_nn::Scope;
use tuwen_tensor::Tensor;

use super::{
    Fused, FusedAnswers, Grounded, GroundedBatch, GroundedPreparation, Judge, Judged, JudgedBatch, Place,
    PlacedBatch, data, fused,
};
use crate::memory::{BatchParts, OnShapes, Sizes, let_learn, train};
use crate::recipe::{Albef as AlbefSettings, Blip as Settings};
use crate::{Recipe, TrainError};

/// A network that is to be built, with some of the samples that it will learn from.
pub(crate) struct Sketch<C> {
    config: C,
    preparation: GroundedPreparation,
    seen: Vec<Sample>,
}

/// A [`Grounded`] on shapes.
pub(crate) struct GroundedOnShapes(pub Sketch<BlipConfig>);

/// A [`Judge`] on shapes.
pub(crate) struct JudgeOnShapes(pub Sketch<BlipConfig>);

/// A [`Fused`] on shapes.
pub(crate) struct FusedOnShapes(pub Sketch<AlbefConfig>);

/// A [`FusedAnswers`] on shapes.
pub(crate) struct AnswersOnShapes(pub Sketch<AlbefConfig>);

impl<C: Clone> Sketch<C> {
    pub fn new(config: &C, preparation: &GroundedPreparation, survey: &Survey) -> Self {
        let mut seen = survey.seen.clone();
        if seen.is_empty() {
            seen.push(longest(preparation.context_length));
        }
        Self { config: config.clone(), preparation: preparation.clone(), seen }
    }

    fn scope(&self, recipe: &Recipe) -> Scope {
        Scope::count().with_precision(recipe.train.precision.into())
    }

    /// Floats in the pixels of an image.
    fn pixels(&self) -> usize {
        3 * self.preparation.image_size * self.preparation.image_size
    }

    /// So many images.
    fn images(&self, count: usize) -> Tensor {
        let side = self.preparation.image_size;
        Tensor::shape_only(&[count, 3, side, side])
    }

    /// Batches without pixels, of the samples by turns, as far apart as they were drawn: one after another.
    fn batches(&self, texts_per_image: usize) -> impl FnMut(usize) -> Batch {
        let mut samples = self.seen.iter().cycle().cloned().enumerate();
        move |count| {
            let mut batch = Batch::default();
            for (number, sample) in samples.by_ref().take(count) {
                let Sample { key, texts, class_name, label, questions, .. } = sample;
                batch.texts.push(texts.first().cloned().unwrap_or_default());
                batch.captions.push(texts.into_iter().take(texts_per_image).collect());
                batch.questions.push(questions.into_iter().take(texts_per_image).collect());
                batch.keys.push(key);
                batch.labels.push(label);
                batch.class_names.push(class_name);
                batch.indices.push(number);
            }
            batch
        }
    }
}

/// A sample with the longest texts, where none can be read.
fn longest(words: usize) -> Sample {
    let text = vec!["word"; words].join(" ");
    let question =
        Question { question: text.clone(), answers: vec!["yes".to_owned()], ..Question::default() };
    Sample { texts: vec![text], questions: vec![question], ..Sample::default() }
}

/// The end of a run, when all that is learnt is learnt.
fn end_of(recipe: &Recipe) -> Place {
    Place { epoch: recipe.train.epochs.saturating_sub(1), batch: 1, batches_per_epoch: 2 }
}

/// The parts of a batch of images with captions and questions.
fn grounded_batch<C: Clone>(
    sketch: &Sketch<C>,
    (recipe, settings): (&Recipe, &Settings),
    parts: BatchParts,
    next: &mut dyn FnMut(usize) -> Batch,
) -> Result<GroundedBatch, TrainError> {
    let part = |_| {
        let (pixel_values, batch) = (sketch.images(parts.size), next(parts.size));
        data::part_of(pixel_values, &batch, &sketch.preparation, settings)
    };
    Ok(GroundedBatch { parts: (0..parts.count).map(part).collect::<Result<_, _>>()?, place: end_of(recipe) })
}

impl OnShapes for GroundedOnShapes {
    fn pixels(&self) -> usize {
        self.0.pixels()
    }

    /// Vectors of images and texts, their gradients, and what the copies make of both.
    fn features(&self) -> usize {
        6 * self.0.config.image_text_hidden_size
    }

    fn train(&self, recipe: &Recipe, parts: BatchParts) -> Result<Sizes, TrainError> {
        let sketch = &self.0;
        let blip = Blip::new(&sketch.config, sketch.scope(recipe))?;
        let_learn(blip.parameters(), recipe)?;
        let network = blip.parameters().clone();
        let objective = Grounded::new(blip, sketch.config.clone(), sketch.preparation.clone(), recipe)?;
        let mut next = sketch.batches(recipe.blip.texts_per_image);
        let from = (recipe, &recipe.blip);
        train(&objective, &network, recipe, || grounded_batch(sketch, from, parts, &mut next))
    }
}

impl OnShapes for JudgeOnShapes {
    /// Of two images.
    fn pixels(&self) -> usize {
        2 * self.0.pixels()
    }

    fn features(&self) -> usize {
        0
    }

    fn train(&self, recipe: &Recipe, parts: BatchParts) -> Result<Sizes, TrainError> {
        let sketch = &self.0;
        let blip = Blip::new(&sketch.config, sketch.scope(recipe))?;
        let_learn(blip.parameters(), recipe)?;
        let network = blip.parameters().clone();
        let objective = Judge::new(blip, sketch.config.clone(), sketch.preparation.clone(), recipe);
        let mut next = sketch.batches(1);
        let mut part = |_| {
            let sentences = sketch.preparation.beside_images(&next(parts.size).texts)?;
            let pixel_values = sketch.images(2 * parts.size);
            Ok(Judged { pixel_values, sentences, targets: vec![0; parts.size] })
        };
        let mut batch = || {
            let parts = (0..parts.count).map(&mut part).collect::<Result<_, TrainError>>()?;
            Ok(JudgedBatch { parts, place: end_of(recipe) })
        };
        train(&objective, &network, recipe, &mut batch)
    }
}

impl OnShapes for FusedOnShapes {
    fn pixels(&self) -> usize {
        self.0.pixels()
    }

    /// Vectors of images and texts, their gradients, what the copies make of both, and their opinion of masked tokens.
    fn features(&self) -> usize {
        let config = &self.0.config;
        let masked = match config.task {
            // As many as BERT masks of a caption of some ten words.
            AlbefTask::Pretrain => 2 * config.text.vocab_size,
            AlbefTask::Retrieval | AlbefTask::Vqa => 0,
        };
        6 * config.embed_dim.unwrap_or_default() + masked
    }

    fn train(&self, recipe: &Recipe, parts: BatchParts) -> Result<Sizes, TrainError> {
        let sketch = &self.0;
        let albef = Albef::new(&sketch.config, sketch.scope(recipe))?;
        let_learn(albef.parameters(), recipe)?;
        let network = albef.parameters().clone();
        let objective = Fused::new(albef, sketch.config.clone(), sketch.preparation.clone(), recipe)?;
        let mut next = sketch.batches(1);
        let mut part = |_| fused::pairs(sketch.images(parts.size), &next(parts.size), &sketch.preparation);
        let mut batch = || {
            let parts = (0..parts.count).map(&mut part).collect::<Result<_, TrainError>>()?;
            Ok(PlacedBatch::new(parts, end_of(recipe)))
        };
        train(&objective, &network, recipe, &mut batch)
    }
}

impl OnShapes for AnswersOnShapes {
    fn pixels(&self) -> usize {
        self.0.pixels()
    }

    fn features(&self) -> usize {
        0
    }

    fn train(&self, recipe: &Recipe, parts: BatchParts) -> Result<Sizes, TrainError> {
        let sketch = &self.0;
        let AlbefSettings { texts_per_image, .. } = recipe.albef;
        let albef = Albef::new(&sketch.config, sketch.scope(recipe))?;
        let_learn(albef.parameters(), recipe)?;
        let network = albef.parameters().clone();
        let objective = FusedAnswers::new(albef, sketch.config.clone(), sketch.preparation.clone(), recipe)?;
        let mut next = sketch.batches(texts_per_image);
        let settings = data::answers_alone(texts_per_image);
        let from = (recipe, &settings);
        train(&objective, &network, recipe, || grounded_batch(sketch, from, parts, &mut next))
    }
}
