//! Fine-tuning for classification: the image tower and a linear head name the class of an image.

use std::path::Path;

use tuwen::{Embeddings, ImageFeatures, LinearClassifier};
use tuwen_eval::{Classes, metrics};
use tuwen_models::clip::{Clip, ClipConfig, VisionConfig};
use tuwen_nn::{Init, Linear, Parameters, Pass, Scope};
use tuwen_tensor::checkpoint::replace_directory;
use tuwen_tensor::{Gradients, Targets, Tensor, no_grad, ops};

use crate::data::Preparation;
use crate::evaluation::{self, Towers};
use crate::objective::{Loss, Objective};
use crate::recipe::{self, Eval, ExportType, HeadInit};
use crate::{Metrics, Recipe, Settings, TrainError, export};

/// The name of the loss in the log.
const LOSS: &str = "cross_entropy";
/// The scope of the head.
const HEAD: &str = "classifier";

/// Images and the number of the class of each.
pub struct LabelledBatch {
    /// `[images, 3, size, size]` and a class for each image, in parts of one size that go through the tower one at a time.
    pub parts: Vec<(Tensor, Vec<u32>)>,
}

/// A CLIP network whose image tower learns classes; its text tower stays as it is.
pub struct Classification {
    clip: Clip,
    config: ClipConfig,
    preparation: Preparation,
    head: Linear,
    classes: Classes,
    settings: recipe::Classification,
    /// Those of the network and the head.
    parameters: Parameters,
}

impl Classification {
    /// Trains `clip`, which was made from `config`, to tell these classes apart.
    ///
    /// # Errors
    /// Prompts that cannot become the head's first weights.
    pub fn new(
        clip: Clip,
        config: ClipConfig,
        preparation: Preparation,
        classes: Classes,
        settings: recipe::Classification,
    ) -> Result<Self, TrainError> {
        let scope = Scope::init(0);
        let dim = config.image_feature_dim(settings.features);
        let head = Linear::new(dim, classes.len(), Init::ZEROS, Init::ZEROS, &scope.enter(HEAD));
        let of_head = scope.finish()?;
        let learns = |name: &str| is_used(name, settings.features);
        for entry in clip.parameters().trainable().filter(|entry| !learns(&entry.name)) {
            entry.param.set_trainable(false);
        }
        let parameters = clip.parameters().and(&of_head);
        let this = Self { clip, config, preparation, head, classes, settings, parameters };
        if this.settings.head_init == HeadInit::ZeroShot {
            this.begin_at_zero_shot()?;
        }
        Ok(this)
    }

    /// Names of the classes, in the order of the head's rows.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// Gives the head the vectors of the classes' prompts times the factor between cosines and logits.
    fn begin_at_zero_shot(&self) -> Result<(), TrainError> {
        let fail = |reason: String| TrainError::Model(format!("head_init = \"zero_shot\": {reason}"));
        let templates = &self.settings.templates;
        let prompts = tuwen::templates::fill(&self.classes.spoken(), templates);
        let prompts = prompts.map_err(|error| fail(error.to_string()))?;
        let vectors = tuwen_eval::Encoder::texts(&self.towers(), &prompts);
        let vectors = metrics::ensemble(vectors.map_err(|error| fail(error.to_string()))?, templates.len());
        let factor = no_grad(|| self.clip.logit_scale()).item();
        let scaled: Vec<f32> = vectors.values().iter().map(|value| factor * value).collect();
        if let Some(entry) = self.parameters.get(&format!("{HEAD}.weight")) {
            entry.param.assign(&Tensor::new(&scaled, &[vectors.len(), vectors.dim()]));
        }
        Ok(())
    }

    fn towers(&self) -> Towers<'_> {
        let Self { clip, config, preparation, settings, .. } = self;
        Towers { clip, config, preparation, features: settings.features }
    }

    /// The head as it is now.
    pub fn classifier(&self) -> LinearClassifier {
        let values = |name: &str| {
            let entry = self.parameters.get(&format!("{HEAD}.{name}"));
            entry.map(|entry| entry.param.value().to_vec()).unwrap_or_default()
        };
        let weight = Embeddings::new(values("weight"), self.towers_dim());
        LinearClassifier::new(self.classes.names().to_vec(), self.settings.features, weight, values("bias"))
    }

    fn towers_dim(&self) -> usize {
        self.config.image_feature_dim(self.settings.features)
    }

    /// A frozen tower computes as in use: its batch norms keep their statistics.
    fn tower_learns(&self) -> bool {
        self.clip.parameters().trainable().next().is_some()
    }

    /// What a part adds to the loss of its batch.
    fn loss_of(
        &self,
        (pixel_values, labels): &(Tensor, Vec<u32>),
        batch: &LabelledBatch,
        pass: &Pass,
    ) -> Tensor {
        let frozen = Pass::eval();
        let pass = if self.tower_learns() { pass } else { &frozen };
        let features = self.clip.image_features_as(self.settings.features, pixel_values, pass);
        let loss = self.cross_entropy(&self.head.forward(&features), labels);
        ops::scale(&loss, (batch.parts.len() as f32).recip())
    }

    fn cross_entropy(&self, logits: &Tensor, labels: &[u32]) -> Tensor {
        let smoothing = self.settings.label_smoothing;
        if smoothing == 0.0 {
            return ops::cross_entropy(logits, Targets::Classes(labels));
        }
        let classes = self.classes.len();
        let mut targets = vec![(smoothing / classes as f64) as f32; labels.len() * classes];
        for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
            row[label as usize] += (1.0 - smoothing) as f32;
        }
        ops::cross_entropy(logits, Targets::Soft(&targets))
    }
}

/// Whether a parameter has a part in what the head looks at.
fn is_used(name: &str, features: ImageFeatures) -> bool {
    let projection = name.starts_with("visual_projection.");
    name.starts_with("vision_model.") || (projection && features != ImageFeatures::Pooled)
}

impl Objective for Classification {
    type Batch = LabelledBatch;

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn optimizer_settings(&self, recipe: &Recipe) -> Settings {
        recipe.optimizer_settings(matches!(self.config.vision, VisionConfig::ResNet(_)))
    }

    fn losses(&self, batch: &LabelledBatch, pass: &Pass) -> Result<Vec<Loss>, TrainError> {
        let terms = batch.parts.iter().map(|part| self.loss_of(part, batch, pass));
        let sum = terms.reduce(|a, b| ops::add(&a, &b));
        Ok(sum.map(|sum| (LOSS, sum)).into_iter().collect())
    }

    /// Part by part, so that one of them is on the tape at a time.
    fn gradients(&self, batch: &LabelledBatch, pass: &Pass) -> Result<(Metrics, Gradients), TrainError> {
        let (mut loss, mut gradients) = (0.0, Gradients::default());
        for part in &batch.parts {
            let term = self.loss_of(part, batch, pass);
            loss += f64::from(term.item());
            gradients.accumulate(term.backward());
        }
        Ok((Metrics::from([(LOSS.to_owned(), loss)]), gradients))
    }

    fn evaluate(&self, recipe: &Recipe, eval: &Eval) -> Result<Metrics, TrainError> {
        let mut towers = self.towers();
        if eval.kind != recipe::EvalKind::Classification {
            towers.features = ImageFeatures::Normalized;
        }
        evaluation::run(&towers, Some(&self.classifier()), recipe, eval)
    }

    fn export(&self, directory: &Path, dtype: ExportType) -> Result<(), TrainError> {
        let classifier = self.classifier();
        let export = export::prepared(&self.config, self.clip.parameters(), &self.preparation, dtype)?;
        replace_directory(directory, |directory| {
            export.fill(directory, &mut |_| {})?;
            let written = classifier.write(&directory.join(LinearClassifier::FILE));
            written.map_err(|error| TrainError::Model(error.to_string()))
        })
    }
}
