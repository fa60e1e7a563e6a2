//! Training of ALBEF with pairs, by a recipe.

mod parts;

use std::path::Path;

use tuwen_data::dataset;
use tuwen_data::loader::{Batch, Loader};
use tuwen_eval::{encode, suites};
use tuwen_models::TokenIds;
use tuwen_models::albef::{Albef, AlbefConfig};
use tuwen_nn::{Parameters, Pass};
use tuwen_tensor::{Gradients, Tensor, no_grad};

use super::evaluation::Towers;
use super::masking::MaskingIds;
use super::{AlbefSettings, FusedBatch, FusedPairs, GroundedPreparation, Place, TEMPERATURES, export};
use crate::data::{Images, Parts};
use crate::objective::{Loss, Objective, gradients_of};
use crate::recipe::{Albef as Settings, Eval, EvalKind, ExportType};
use crate::{BatchSource, Metrics, Recipe, Sources, TrainError};

/// Pairs and where in the run they stand.
pub struct PlacedBatch {
    /// In parts that go through the network one at a time.
    parts: Vec<FusedBatch>,
    place: Place,
}

impl PlacedBatch {
    pub(super) fn new(parts: Vec<FusedBatch>, place: Place) -> Self {
        Self { parts, place }
    }

    /// The numbers of all images.
    fn ids(&self) -> Vec<u32> {
        self.parts.iter().flat_map(|part| part.ids.iter().copied()).collect()
    }
}

/// An ALBEF that learns what its task asks for.
pub struct Fused {
    fused: FusedPairs,
    config: AlbefConfig,
    preparation: GroundedPreparation,
    settings: Settings,
    seed: u64,
    ids: MaskingIds,
    notes: Vec<String>,
    parameters: Parameters,
}

impl Fused {
    /// Trains `albef`, which was made from `config`.
    ///
    /// # Errors
    /// A network that compares no images and texts.
    pub fn new(
        albef: Albef,
        config: AlbefConfig,
        preparation: GroundedPreparation,
        recipe: &Recipe,
    ) -> Result<Self, TrainError> {
        if albef.contrast().is_none() {
            return Err(TrainError::Model("this ALBEF compares no images and texts".into()));
        }
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
        let notes = Vec::new();
        Ok(Self { fused, config, preparation, settings, seed: recipe.seed, ids, notes, parameters })
    }

    /// With what is to be said of the network before it learns.
    #[must_use]
    pub fn with_notes(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
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

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn optimizer_settings(&self, recipe: &Recipe) -> crate::Settings {
        super::settings_of_albef(recipe)
    }

    /// The losses of a batch; the copies follow and remember what they saw of it.
    fn losses(&self, batch: &PlacedBatch, pass: &Pass) -> Result<Vec<Loss>, TrainError> {
        Ok(self.losses_of_whole(batch, pass))
    }

    fn gradients(&self, batch: &PlacedBatch, pass: &Pass) -> Result<(Metrics, Gradients), TrainError> {
        Ok(match batch.parts.len() {
            1 => gradients_of(self.losses_of_whole(batch, pass)),
            _ => self.gradients_by_parts(batch, pass),
        })
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
        let dataset = dataset::open(&recipe.dataset(&eval.dataset()))?;
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
        let images = Images::of_grounded(&preparation);
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
            let pairs = |part: Batch| pairs(preparation.pixel_values(&part), &part, &preparation);
            Ok(PlacedBatch { parts: parts?.into_iter().map(pairs).collect::<Result<_, _>>()?, place })
        }))
    }

    fn loader(&self) -> Option<&Loader> {
        Some(self.parts.loader())
    }
}

/// Pairs as the network takes them.
pub(super) fn pairs(
    pixel_values: Tensor,
    part: &Batch,
    preparation: &GroundedPreparation,
) -> Result<FusedBatch, TrainError> {
    let texts: Vec<String> = part.texts.iter().map(|text| preparation.caption(text)).collect();
    Ok(FusedBatch {
        pixel_values,
        tokens: preparation.tokens(&texts)?,
        ids: part.indices.iter().map(|&index| index as u32).collect(),
        masked: None,
    })
}
