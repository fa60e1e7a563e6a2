//! Evaluations of a BLIP in training on held-out data.

use tuwen::{Embeddings, Picture};
use tuwen_data::augment::{Augment, Fit};
use tuwen_data::dataset::{self, Dataset, DatasetSpec};
use tuwen_data::loader::{Loader, LoaderOptions};
use tuwen_eval::{Encoder, EvalError, encode, suites};
use tuwen_models::TokenIds;
use tuwen_models::bert::EncoderStates;
use tuwen_nn::Pass;
use tuwen_tensor::{Tensor, no_grad};

use super::{Asked, Grounded, GroundedBatch, GroundedPreparation, Place, data, written};
use crate::objective::Objective;
use crate::recipe::output::NEGATIVE_LOSS;
use crate::recipe::{Eval, EvalKind};
use crate::{Metrics, Recipe, TrainError};

/// Makes one evaluation of a recipe.
pub(super) fn run(grounded: &Grounded, recipe: &Recipe, eval: &Eval) -> Result<Metrics, TrainError> {
    let spec = recipe.dataset(&eval.dataset());
    let fail = |reason: String| TrainError::Eval { eval: eval.name(), reason };
    match eval.kind {
        EvalKind::Loss => losses(grounded, recipe, &spec),
        EvalKind::Retrieval => {
            let matcher = grounded.blip.matcher();
            let matcher = matcher.ok_or_else(|| fail("this network compares no images and texts".into()))?;
            let images = |pixel_values: &Tensor| {
                let pass = Pass::eval();
                matcher.contrast.embed_image(&matcher.encoders.image(pixel_values, &pass), &pass)
            };
            let texts = |tokens: &TokenIds| matcher.embed_text(tokens, &Pass::eval());
            let towers = Towers {
                preparation: &grounded.preparation,
                dim: grounded.config.image_text_hidden_size,
                images: &images,
                texts: &texts,
            };
            let dataset = dataset::open(&spec)?;
            let encoded = encode(&towers, dataset.as_ref(), &mut |_| ());
            let metrics = encoded.and_then(|encoded| suites::retrieval(&towers, &encoded));
            metrics.map_err(|error| fail(error.to_string()))
        }
        EvalKind::Caption | EvalKind::Vqa | EvalKind::Matching => {
            let dataset = dataset::open(&spec)?;
            let metrics = match eval.kind {
                EvalKind::Caption => written::captions(grounded, dataset.as_ref())?,
                EvalKind::Vqa => answers(grounded, dataset.as_ref())?,
                _ => written::matches(grounded, dataset.as_ref())?,
            };
            metrics.ok_or_else(|| fail("this network was not made for it".into()))
        }
        EvalKind::ZeroShot | EvalKind::Classification | EvalKind::Nlvr2 => {
            Err(fail("BLIP has no such evaluation".into()))
        }
    }
}

/// How well questions are answered.
fn answers(grounded: &Grounded, dataset: &dyn Dataset) -> Result<Option<Metrics>, TrainError> {
    let Some(answerer) = grounded.blip.answerer() else { return Ok(None) };
    let read = |pixel_values: &Tensor, asked: &Asked| {
        let states = grounded.blip.vision_model().tokens(pixel_values, &Pass::eval());
        let images = super::batch::seen_by(&states, &asked.images);
        let read = EncoderStates::new(answerer.read(&asked.tokens, &images, &Pass::eval()));
        read.with_mask(asked.tokens.attention_mask.clone())
    };
    written::answers(answerer.text_decoder, &grounded.preparation, dataset, &read).map(Some)
}

/// Means of the losses over all samples, in batches as in training and with the same texts each time.
fn losses(grounded: &Grounded, recipe: &Recipe, spec: &DatasetSpec) -> Result<Metrics, TrainError> {
    let preparation = &grounded.preparation;
    let transform = &preparation.processor.transform;
    let train = &recipe.train;
    let options = LoaderOptions {
        batch_size: train.micro_batch_size.unwrap_or(train.batch_size),
        shuffle: false,
        drop_last: false,
        questions_suffice: grounded.settings.answers(),
        texts_per_sample: grounded.settings.texts_per_image,
        image_size: preparation.image_size,
        mean: transform.mean,
        std: transform.std,
        augment: as_evaluated(),
        threads: train.threads,
        ..LoaderOptions::default()
    };
    let loader = Loader::new(vec![(dataset::open(spec)?, 1.0)], options)?;
    let (mut sums, mut samples) = (Metrics::new(), 0.0);
    for (batch, index) in loader.epoch(0, 0).zip(0..) {
        let batch = batch?;
        let count = batch.keys.len() as f64;
        let part = data::part(&batch, preparation, &grounded.settings)?;
        let place = Place { epoch: 0, batch: index, batches_per_epoch: loader.batches_per_epoch() };
        let batch = GroundedBatch { parts: vec![part], place };
        for (name, loss) in no_grad(|| grounded.losses(&batch, &Pass::eval()))? {
            *sums.entry(name.to_owned()).or_default() += count * f64::from(loss.item());
        }
        samples += count;
    }
    let mut metrics: Metrics = sums.into_iter().map(|(name, sum)| (name, sum / samples)).collect();
    let total: f64 = metrics.values().sum();
    metrics.insert(NEGATIVE_LOSS.to_owned(), -total);
    Ok(metrics)
}

/// Images as they are, squeezed to the size that the network takes.
pub(super) fn as_evaluated() -> Augment {
    Augment { fit: Fit::Squash, ..Augment::default() }
}

/// The encoders, as a benchmark knows them.
pub(super) struct Towers<'a> {
    pub preparation: &'a GroundedPreparation,
    pub dim: usize,
    /// Unit vectors of images.
    pub images: &'a (dyn Fn(&Tensor) -> Tensor + Sync),
    /// Unit vectors of texts.
    pub texts: &'a (dyn Fn(&TokenIds) -> Tensor + Sync),
}

impl Encoder for Towers<'_> {
    type Image = Vec<f32>;

    fn dim(&self) -> usize {
        self.dim
    }

    fn prepare(&self, image: &Picture) -> Vec<f32> {
        let transform = &self.preparation.processor.transform;
        transform.pixel_values(&transform.apply(image))
    }

    fn images(&self, images: &[Vec<f32>]) -> Embeddings {
        let size = self.preparation.image_size;
        let pixel_values = Tensor::new(&images.concat(), &[images.len(), 3, size, size]);
        Embeddings::new(no_grad(|| (self.images)(&pixel_values)).to_vec(), self.dim)
    }

    fn texts(&self, texts: &[String]) -> Result<Embeddings, EvalError> {
        /// Texts that are read together.
        const BATCH: usize = 128;
        let texts: Vec<String> = texts.iter().map(|text| self.preparation.caption(text)).collect();
        let mut vectors = Vec::new();
        for texts in texts.chunks(BATCH) {
            let tokens = self.preparation.tokens(texts);
            let tokens = tokens.map_err(|error| EvalError::Model(error.to_string()))?;
            vectors.extend(no_grad(|| (self.texts)(&tokens)).to_vec());
        }
        Ok(Embeddings::new(vectors, self.dim))
    }
}
