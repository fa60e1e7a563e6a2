//! Contrastive training of CLIP: a loss over all pairs of a batch, zero-shot and retrieval on the way.

use std::path::Path;

use tuwen::ImageFeatures;
use tuwen::export::Export;
use tuwen_models::clip::{Clip, ClipConfig, TokenIds, VisionConfig};
use tuwen_nn::{ContrastiveLoss, Meanings, Parameters, Pass};
use tuwen_tensor::{Gradients, Tensor, no_grad, ops};

use crate::data::Preparation;
use crate::distillation::{self, DISTILLATION};
use crate::evaluation::{self, Towers};
use crate::grounded::joined;
use crate::objective::{Loss, Objective, gradients_of};
use crate::recipe::{Eval, ExportType};
use crate::{Keys, Metrics, Recipe, Settings, TrainError, export};

/// The name of the loss in the log.
const LOSS: &str = "contrastive";

/// Images and the captions that belong to them.
pub struct ClipBatch {
    /// The pairs, in parts that go through the towers one at a time.
    pub parts: Vec<Pairs>,
    /// What each pair is about: the name of its class, else its caption.
    pub meanings: Vec<String>,
}

/// Pairs that go through the towers together.
pub struct Pairs {
    /// `[pairs, 3, size, size]`.
    pub pixel_values: Tensor,
    /// `[pairs, context]`.
    pub tokens: TokenIds,
    /// Their vectors as a teacher has them, where there is one.
    pub taught: Option<Keys>,
}

/// A CLIP network that learns to match images and captions.
pub struct Contrastive {
    clip: Clip,
    config: ClipConfig,
    preparation: Preparation,
    loss: ContrastiveLoss,
    duplicates_are_positives: bool,
    distillation_weight: f64,
}

impl Contrastive {
    /// Trains `clip`, which was made from `config`.
    pub fn new(clip: Clip, config: ClipConfig, preparation: Preparation, recipe: &Recipe) -> Self {
        let duplicates_are_positives = recipe.train.duplicates_are_positives;
        let loss = ContrastiveLoss::new(recipe.train.loss.into());
        let distillation_weight = recipe.distillation.as_ref().map_or(0.0, |settings| settings.weight);
        Self { clip, config, preparation, loss, duplicates_are_positives, distillation_weight }
    }

    /// Unit vectors of the images and of the texts of a batch.
    fn features(&self, batch: &ClipBatch, pass: &Pass) -> [Tensor; 2] {
        let image = |pairs: &Pairs| self.clip.embed_image(&pairs.pixel_values, pass);
        let text = |pairs: &Pairs| self.text(&pairs.tokens, pass);
        [joined(batch.parts.iter().map(image).collect()), joined(batch.parts.iter().map(text).collect())]
    }

    /// Adds the gradients of a tower, whose features have the gradients `seed`.
    fn backward(
        &self,
        batch: &ClipBatch,
        seed: Option<Tensor>,
        gradients: &mut Gradients,
        tower: impl Fn(&Pairs) -> Tensor,
    ) {
        let Some(seed) = seed else { return };
        let mut first = 0;
        for pairs in &batch.parts {
            let features = tower(pairs);
            if !features.requires_grad() {
                return; // a frozen tower
            }
            let rows = features.shape()[0];
            gradients.accumulate(features.backward_from(ops::narrow(&seed, 0, first, rows)));
            first += rows;
        }
    }

    /// How far the vectors of a batch are from a teacher's.
    fn distillation(&self, batch: &ClipBatch, features: &[Tensor; 2]) -> Option<Loss> {
        let taught = Keys::of_all(batch.parts.iter().map(|pairs| pairs.taught.as_ref()))?;
        Some((DISTILLATION, distillation::loss(features, &taught, self.distillation_weight)))
    }

    /// Which pairs are the same, where those count as right for each other.
    fn meanings(&self, batch: &ClipBatch) -> Option<Meanings> {
        self.duplicates_are_positives.then(|| Meanings::new(&batch.meanings))
    }

    /// Unit vectors of texts.
    fn text(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        ops::l2_normalize(&self.clip.text_features_by_length(tokens, pass))
    }

    /// The model in the layout that most programs load; what that cannot hold is known before the first step.
    pub(crate) fn prepare_export(&self, dtype: ExportType) -> Result<Export<'_>, TrainError> {
        export::prepare(&self.config, self.clip.parameters(), &self.preparation, dtype)
    }
}

impl Objective for Contrastive {
    type Batch = ClipBatch;

    fn parameters(&self) -> &Parameters {
        self.clip.parameters()
    }

    fn optimizer_settings(&self, recipe: &Recipe) -> Settings {
        recipe.optimizer_settings(matches!(self.config.vision, VisionConfig::ResNet(_)))
    }

    fn losses(&self, batch: &ClipBatch, pass: &Pass) -> Result<Vec<Loss>, TrainError> {
        let features = self.features(batch, pass);
        let [image, text] = &features;
        let meanings = self.meanings(batch);
        let loss = self.loss.forward(image, text, &self.clip.temperature(), meanings.as_ref());
        Ok([(LOSS, loss)].into_iter().chain(self.distillation(batch, &features)).collect())
    }

    /// A batch of one part is on the tape as a whole. Of a larger one, the features alone are computed first; then the
    /// gradients of the loss for them; then part by part those for the network (GradCache, arXiv 2101.06983).
    fn gradients(&self, batch: &ClipBatch, pass: &Pass) -> Result<(Metrics, Gradients), TrainError> {
        if batch.parts.len() <= 1 {
            return Ok(gradients_of(self.losses(batch, pass)?));
        }
        let rehearsal = pass.rehearsal();
        let features = no_grad(|| self.features(batch, &rehearsal)).map(|x| x.leaf());
        let [image, text] = &features;
        let meanings = self.meanings(batch);
        let (mut loss, mut gradients) = (0.0, Gradients::default());
        for part in self.loss.blocks(image, text, || self.clip.temperature(), meanings.as_ref()) {
            loss += f64::from(part.item());
            gradients.accumulate(part.backward());
        }
        let mut metrics = Metrics::from([(LOSS.to_owned(), loss)]);
        if let Some((name, loss)) = self.distillation(batch, &features) {
            metrics.insert(name.to_owned(), f64::from(loss.item()));
            gradients.accumulate(loss.backward());
        }
        let [image, text] = features.map(|x| gradients.take(&x));
        self.backward(batch, image, &mut gradients, |pairs| self.clip.embed_image(&pairs.pixel_values, pass));
        self.backward(batch, text, &mut gradients, |pairs| self.text(&pairs.tokens, pass));
        Ok((metrics, gradients))
    }

    fn after_step(&self) {
        self.clip.clamp_logit_scale();
    }

    fn gauges(&self) -> Metrics {
        let logit_scale = no_grad(|| self.clip.logit_scale()).item();
        Metrics::from([("logit_scale".to_owned(), f64::from(logit_scale))])
    }

    fn evaluate(&self, recipe: &Recipe, eval: &Eval) -> Result<Metrics, TrainError> {
        let Self { clip, config, preparation, .. } = self;
        let towers = Towers { clip, config, preparation, features: ImageFeatures::Normalized };
        evaluation::run(&towers, None, recipe, eval)
    }

    fn export(&self, directory: &Path, dtype: ExportType) -> Result<(), TrainError> {
        Ok(self.prepare_export(dtype)?.write_directory(directory, &mut |_| {})?)
    }
}
