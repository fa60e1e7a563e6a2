//! Training of ALBEF by a recipe.

use std::path::Path;

use tuwen_data::dataset::{self, DatasetSpec};
use tuwen_data::loader::Share;
use tuwen_eval::{encode, suites};
use tuwen_models::TokenIds;
use tuwen_models::albef::{Albef, AlbefConfig, AlbefTask};
use tuwen_nn::{Parameters, Pass};
use tuwen_tensor::{Gradients, Tensor, no_grad};

use super::evaluation::Towers;
use super::masking::{Masked, MaskingIds};
use super::{
    AlbefSettings, FusedBatch, FusedPairs, GroundedPreparation, Place, TEMPERATURES, export, matching,
};
use crate::data::{Images, Parts};
use crate::objective::{Loss, Objective, gradients_of};
use crate::recipe::{Albef as Settings, Eval, EvalKind, ExportType};
use crate::{BatchSource, Metrics, Recipe, Sources, TrainError};

/// Pairs and where in the run they stand.
pub struct PlacedBatch {
    pairs: FusedBatch,
    place: Place,
}

/// An ALBEF that learns what its task asks for.
pub struct Fused {
    fused: FusedPairs,
    config: AlbefConfig,
    preparation: GroundedPreparation,
    settings: Settings,
    seed: u64,
    ids: MaskingIds,
    parameters: Parameters,
}

impl Fused {
    /// Trains `albef`, which was made from `config`.
    ///
    /// # Errors
    /// Copies that cannot be made.
    pub fn new(
        albef: Albef,
        config: AlbefConfig,
        preparation: GroundedPreparation,
        recipe: &Recipe,
    ) -> Result<Self, TrainError> {
        let settings = recipe.albef.clone();
        let of_copies =
            AlbefSettings { momentum: settings.momentum, queue_size: settings.queue_size, seed: recipe.seed };
        let fused = FusedPairs::new(albef, &config, of_copies)?;
        let parameters = fused.albef().parameters().and(fused.teacher().parameters());
        let tokenizer = &preparation.tokenizer;
        let ids = MaskingIds {
            pad: tokenizer.pad_id(),
            cls: tokenizer.start_id(),
            mask: tokenizer.id("[MASK]").unwrap_or_default(),
            vocab_size: tokenizer.vocab_size(),
        };
        Ok(Self { fused, config, preparation, settings, seed: recipe.seed, ids, parameters })
    }

    /// How much the copies' opinion counts at a place of the run.
    fn alpha(&self, place: &Place) -> f32 {
        let ramp = self.settings.alpha_ramp_epochs;
        let part = if ramp > 0.0 { (place.epochs() / ramp).min(1.0) } else { 1.0 };
        (self.settings.alpha * part) as f32
    }

    fn temp(&self) -> Option<Tensor> {
        Some(self.fused.albef().contrast()?.temp()?.value())
    }
}

impl Objective for Fused {
    type Batch = PlacedBatch;

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn optimizer_settings(&self, recipe: &Recipe) -> crate::Settings {
        let settings = super::settings_of_pytorch(recipe);
        // ALBEF spares vectors, BLIP does not.
        crate::Settings { decays_all: recipe.optimizer.decay_all.unwrap_or(false), ..settings }
    }

    /// The losses of a batch; the copies follow and remember what they saw of it.
    fn losses(&self, batch: &PlacedBatch, pass: &Pass) -> Result<Vec<Loss>, TrainError> {
        let PlacedBatch { pairs, place } = batch;
        let mut random = place.random(self.seed, &[2]);
        let masked = (self.config.task == AlbefTask::Pretrain).then(|| {
            Masked::draw(&pairs.tokens, self.settings.mlm_probability as f32, self.ids, &mut random)
        });
        let masked = masked.filter(|masked| !masked.places.is_empty());
        let pairs = FusedBatch {
            pixel_values: pairs.pixel_values.clone(),
            tokens: pairs.tokens.clone(),
            ids: pairs.ids.clone(),
            masked,
        };
        let seed = place.random(self.seed, &[0]).next_u64();
        let pass = pass.rehearsal().with_dropout(self.settings.dropout as f32, seed);
        let Some(taught) = self.fused.teach(&pairs) else { return Ok(Vec::new()) };
        let temp = no_grad(|| self.temp()).map_or(1.0, |temp| temp.item());
        let ids = (self.config.task == AlbefTask::Retrieval).then_some(&pairs.ids[..]);
        let mut random = place.random(self.seed, &[1]);
        let draw = |features: &[Tensor; 2]| {
            matching::draw(features, Some(&taught.keys), temp, ids, 0.0, &mut random)
        };
        let losses = self.fused.losses(&pairs, &taught, self.alpha(place), draw, &pass);
        self.fused.teacher().enqueue(&taught.keys, &pairs.ids);
        Ok(losses)
    }

    fn gradients(&self, batch: &PlacedBatch, pass: &Pass) -> Result<(Metrics, Gradients), TrainError> {
        Ok(gradients_of(self.losses(batch, pass)?))
    }

    fn after_step(&self) {
        let Some(temp) = self.fused.albef().contrast().and_then(|contrast| contrast.temp().cloned()) else {
            return;
        };
        let [low, high] = TEMPERATURES;
        let value = temp.value().item();
        if value != value.clamp(low, high) {
            temp.assign(&Tensor::on(temp.value().device(), &[value.clamp(low, high)], &[]));
        }
    }

    fn gauges(&self) -> Metrics {
        let temp = no_grad(|| self.temp());
        temp.map(|temp| ("temp".to_owned(), f64::from(temp.item()))).into_iter().collect()
    }

    fn evaluate(&self, recipe: &Recipe, eval: &Eval) -> Result<Metrics, TrainError> {
        let fail = |reason: String| TrainError::Eval { eval: eval.name(), reason };
        let Some(contrast) = self.fused.albef().contrast().filter(|_| eval.kind == EvalKind::Retrieval)
        else {
            return Err(fail("ALBEF has the evaluation \"retrieval\" alone".into()));
        };
        let albef = self.fused.albef();
        let image = |pixel_values: &Tensor| {
            contrast.embed_image(&albef.image(pixel_values, &Pass::eval()), &Pass::eval())
        };
        let text = |tokens: &TokenIds| contrast.embed_text(&albef.text(tokens, &Pass::eval()), &Pass::eval());
        let towers = Towers {
            preparation: &self.preparation,
            dim: self.config.embed_dim.unwrap_or_default(),
            images: &image,
            texts: &text,
        };
        let spec = DatasetSpec { limit: eval.limit, ..DatasetSpec::new(&eval.path) };
        let dataset = dataset::open(&recipe.dataset(&spec))?;
        let encoded = encode(&towers, dataset.as_ref(), &mut |_| ());
        let metrics = encoded.and_then(|encoded| suites::retrieval(&towers, &encoded));
        metrics.map_err(|error| fail(error.to_string()))
    }

    fn export(&self, directory: &Path, dtype: ExportType) -> Result<(), TrainError> {
        export::write_albef(&self.config, self.fused.albef(), &self.preparation, directory, dtype)
    }
}

/// Image-text pairs of the recipe's data sets in batches.
pub struct FusedData {
    parts: Parts,
    preparation: GroundedPreparation,
}

impl FusedData {
    /// Mixes the data sets of a recipe.
    ///
    /// # Errors
    /// Weights that leave nothing, or data that do not fill a batch.
    pub fn new(
        recipe: &Recipe,
        sources: &Sources,
        preparation: GroundedPreparation,
    ) -> Result<Self, TrainError> {
        let transform = &preparation.processor.transform;
        let images = Images { size: preparation.image_size, mean: transform.mean, std: transform.std };
        Ok(Self { parts: Parts::new(recipe, sources, images, |_| ())?, preparation })
    }
}

impl BatchSource for FusedData {
    type Batch = PlacedBatch;

    fn batches_per_epoch(&self) -> u64 {
        self.parts.batches_per_epoch()
    }

    fn epoch(&self, epoch: u64, first: u64) -> Box<dyn Iterator<Item = Result<PlacedBatch, TrainError>>> {
        let preparation = self.preparation.clone();
        let batches_per_epoch = self.batches_per_epoch();
        Box::new(self.parts.epoch(epoch, first).zip(first..).map(move |(parts, batch)| {
            let place = Place { epoch, batch, batches_per_epoch };
            let size = preparation.image_size;
            let mut parts = parts?.into_iter();
            let Some(part) = parts.next() else { return Err(TrainError::NoData { failures: 0 }) };
            let texts: Vec<String> = part.texts.iter().map(|text| preparation.caption(text)).collect();
            let pairs = FusedBatch {
                pixel_values: Tensor::new(&part.pixel_values, &[part.keys.len(), 3, size, size]),
                tokens: preparation.tokens(&texts)?,
                ids: part.indices.iter().map(|&index| index as u32).collect(),
                masked: None,
            };
            Ok(PlacedBatch { pairs, place })
        }))
    }

    fn failures(&self) -> u64 {
        self.parts.failures()
    }

    fn shares(&self) -> Vec<Share> {
        self.parts.shares()
    }

    fn failed_samples(&self) -> Vec<String> {
        self.parts.failed_samples()
    }
}
