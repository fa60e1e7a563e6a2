//! Training of BLIP: contrast, matching, captions and answers, by one network or by one for a task.
//!
//! References: salesforce/BLIP `models/blip_{pretrain,retrieval,vqa}.py`, `models/blip.py`; arXiv 2201.12086, section 3.2.

mod albef;
mod batch;
mod contrast;
mod data;
mod evaluation;
mod export;
mod fused;
mod fused_answers;
mod masking;
mod matching;
mod momentum;
mod network;
mod nlvr;
mod on_shapes;
mod preparation;
mod start;
mod written;

use std::path::Path;

use tuwen_models::bert::{EncoderStates, NextTokens};
use tuwen_models::blip::{Blip, BlipConfig};
use tuwen_nn::{Parameters, Pass};
use tuwen_tensor::{Gradients, Tensor, no_grad, ops};

pub use albef::{AlbefSettings, FusedBatch, FusedPairs, Taught};
pub use batch::{Asked, CaptionedImages, GroundedBatch, GroundedPart, Place};
pub use contrast::Keys;
pub use data::GroundedData;
pub use fused::{Fused, FusedData, PlacedBatch};
pub use fused_answers::FusedAnswers;
pub use masking::Masked;
pub use matching::Negatives;
pub use momentum::Teacher;
pub(crate) use network::{Planned, albef_parts, parts};
pub use nlvr::{Judge, Judged, JudgedBatch, JudgedData};
pub(crate) use on_shapes::{AnswersOnShapes, FusedOnShapes, GroundedOnShapes, JudgeOnShapes, Sketch};
pub use preparation::GroundedPreparation;

use crate::distillation::{self, DISTILLATION};
use crate::objective::{Loss, Objective, gradients_of};
use crate::recipe::{Blip as Settings, Eval, ExportType, Task};
use crate::{Metrics, Recipe, TrainError};

/// Names of the losses in the log.
const ITC: &str = "itc";
const ITM: &str = "itm";
const LM: &str = "lm";
const VQA: &str = "vqa";

/// Where the temperature has to stay.
const TEMPERATURES: [f32; 2] = [0.001, 0.5];

/// A BLIP that learns what its task asks for.
pub struct Grounded {
    blip: Blip,
    config: BlipConfig,
    preparation: GroundedPreparation,
    settings: Settings,
    duplicates_are_positives: bool,
    distillation_weight: f64,
    seed: u64,
    teacher: Option<Teacher>,
    notes: Vec<String>,
    /// Those of the network and of its copies.
    parameters: Parameters,
}

/// What a network saw of a part of a batch.
struct Seen {
    /// Images of pairs, as layers look at them.
    images: Option<EncoderStates>,
    /// Unit vectors of pairs: images and texts.
    features: Option<[Tensor; 2]>,
    /// Images that questions are about; those of an image stand together.
    asked: Option<EncoderStates>,
}

/// Counts over a whole batch, by which sums become means.
#[derive(Clone, Copy, Default)]
struct Totals {
    pairs: usize,
    written: usize,
    questions: usize,
}

impl Grounded {
    /// Trains `blip`, which was made from `config`.
    ///
    /// # Errors
    /// Copies that cannot be made.
    pub fn new(
        blip: Blip,
        config: BlipConfig,
        preparation: GroundedPreparation,
        recipe: &Recipe,
    ) -> Result<Self, TrainError> {
        let settings = recipe.blip.clone();
        let teacher = match settings.momentum.filter(|_| settings.compares()) {
            Some(momentum) => Some(Teacher::new(&blip, &config, momentum, settings.queue_size, recipe.seed)?),
            None => None,
        };
        let copies = teacher.iter().flat_map(|teacher| teacher.parameters().iter().cloned());
        let parameters = blip.parameters().and(&copies.collect());
        let duplicates_are_positives = recipe.train.duplicates_are_positives;
        let distillation_weight = recipe.distillation.as_ref().map_or(0.0, |settings| settings.weight);
        let seed = recipe.seed;
        let notes = Vec::new();
        Ok(Self {
            blip,
            config,
            preparation,
            settings,
            duplicates_are_positives,
            distillation_weight,
            seed,
            teacher,
            notes,
            parameters,
        })
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

    /// The copies that follow slowly, if there are any.
    pub fn teacher(&self) -> Option<&Teacher> {
        self.teacher.as_ref()
    }

    /// A pass that leaves out what the place of a part of a batch decides.
    fn pass(&self, batch: &GroundedBatch, part: usize, pass: &Pass) -> Pass {
        if !pass.is_training() {
            return Pass::eval();
        }
        let seed = batch.place.random(self.seed, &[0, part as u64]).next_u64();
        settings_pass(&self.settings, pass, seed)
    }

    fn look(&self, part: &GroundedPart, pass: &Pass) -> Seen {
        let states = self.blip.vision_model().tokens(&part.pixel_values, pass);
        let pairs = part.pairs.as_ref();
        let images = pairs.map(|pairs| batch::images_of(&states, &pairs.images));
        let features =
            pairs.zip(self.blip.matcher()).zip(images.as_ref()).map(|((pairs, matcher), images)| {
                let text = matcher.embed_text(&pairs.tokens, pass);
                [matcher.contrast.embed_image(images, pass), text]
            });
        let asked = part.asked.as_ref().map(|asked| batch::seen_by(&states, &asked.images));
        let images = images.map(|images| {
            let images = EncoderStates::new(images);
            // Encoder and decoder of pre-training share what looks at images: keys and values are computed once for all.
            match (self.settings.task, self.blip.encoders()) {
                (Task::Pretrain | Task::Retrieval, Some(encoders)) => encoders.text_encoder.project(&images),
                _ => images,
            }
        });
        Seen { images, features, asked }
    }

    /// What a part adds to the losses of its batch but for the contrast.
    fn part_losses(
        &self,
        part: &GroundedPart,
        seen: &Seen,
        negatives: Option<&Negatives>,
        totals: Totals,
        place: Place,
        pass: &Pass,
    ) -> Vec<Loss> {
        let mut losses = Vec::new();
        if let (Some(pairs), Some(images)) = (&part.pairs, &seen.images) {
            if let Some(matcher) = self.blip.matcher().filter(|_| self.matches(place)) {
                let share = pairs.images.len() as f32 / totals.pairs as f32;
                let tokens = pairs.tokens.clone().starting_with(self.config.grounded_start());
                let logits = |texts: &[u32], images: &EncoderStates| {
                    matcher.itm_logits(&tokens.select(texts), images, pass)
                };
                let loss = matching::loss(tokens.batch(), images, negatives, logits);
                losses.push((ITM, ops::scale(&loss, share * self.settings.itm as f32)));
            }
            if self.settings.writes() {
                losses.extend(self.writing(pairs, images, totals, pass).map(|loss| (LM, loss)));
            }
        }
        if let (Some(asked), Some(images)) = (&part.asked, &seen.asked)
            && self.settings.answers()
        {
            losses.extend(self.answering(asked, images, totals, pass).map(|loss| (VQA, loss)));
        }
        losses
    }

    /// Whether pairs are told from others at a place in the run.
    fn matches(&self, place: Place) -> bool {
        self.settings.itm > 0.0 && place.epoch >= self.settings.itm_start_epoch
    }

    fn writing(
        &self,
        pairs: &CaptionedImages,
        images: &EncoderStates,
        totals: Totals,
        pass: &Pass,
    ) -> Option<Tensor> {
        let decoder = self.blip.text_decoder()?;
        let next = NextTokens::of(&pairs.written, self.preparation.given());
        let each = self.settings.lm as f32 / totals.written.max(1) as f32;
        let weights = vec![each; pairs.written.batch()];
        let images = batch::repeated(images, &pairs.written_images);
        let smoothing = self.settings.label_smoothing as f32;
        Some(decoder.loss(&pairs.written, &images, &next, &weights, smoothing, pass))
    }

    fn answering(
        &self,
        asked: &Asked,
        images: &EncoderStates,
        totals: Totals,
        pass: &Pass,
    ) -> Option<Tensor> {
        let answerer = self.blip.answerer()?;
        let questions = EncoderStates::new(answerer.read(&asked.tokens, images, pass));
        let questions = questions.with_mask(asked.tokens.attention_mask.clone());
        let questions = batch::repeated(&questions, &asked.question_of_answer);
        let each = self.settings.vqa() as f32 / totals.questions.max(1) as f32;
        let weights: Vec<f32> = asked.weights.iter().map(|weight| weight * each).collect();
        let next = NextTokens::of(&asked.answers, 1);
        let smoothing = self.settings.label_smoothing as f32;
        Some(answerer.text_decoder.loss(&asked.answers, &questions, &next, &weights, smoothing, pass))
    }

    fn totals(&self, batch: &GroundedBatch) -> Totals {
        let mut totals = Totals::default();
        for part in &batch.parts {
            if let Some(pairs) = &part.pairs {
                totals.pairs += pairs.images.len();
                totals.written += NextTokens::of(&pairs.written, self.preparation.given()).ids.len();
            }
            totals.questions += part.asked.as_ref().map_or(0, |asked| asked.images.len());
        }
        totals
    }

    /// The temperature, where images and texts are compared.
    fn temp(&self) -> Option<Tensor> {
        Some(self.blip.matcher()?.contrast.temp()?.value())
    }

    /// The contrast of a whole batch, from the vectors of its pairs and of what the copies make of them.
    fn contrast(&self, batch: &GroundedBatch, features: &[Tensor; 2], keys: Option<&Keys>) -> Option<Tensor> {
        let temp = self.temp()?;
        let weight = self.settings.itc as f32;
        let loss = match (keys, &self.teacher) {
            (Some(keys), Some(teacher)) => {
                let alpha = self.alpha(batch);
                let ids = (self.settings.task == Task::Retrieval).then(|| batch.ids());
                teacher.contrast(features, keys, ids.as_deref(), &temp, alpha)
            }
            _ => contrast::of_batch(features, &temp, self.meanings(batch).as_deref()),
        };
        Some(ops::scale(&loss, weight))
    }

    /// What is learnt of the vectors of a whole batch: the contrast, and what a teacher makes of its pairs.
    fn comparisons(&self, batch: &GroundedBatch, features: &[Tensor; 2], keys: Option<&Keys>) -> Vec<Loss> {
        let contrast = || Some((ITC, self.contrast(batch, features, keys)?));
        let taught = |taught| (DISTILLATION, distillation::loss(features, &taught, self.distillation_weight));
        let contrast = (self.settings.itc > 0.0).then(contrast).flatten();
        contrast.into_iter().chain(batch.taught().map(taught)).collect()
    }

    /// How much the copies' opinion counts now.
    fn alpha(&self, batch: &GroundedBatch) -> f32 {
        let ramp = self.settings.alpha_ramp_epochs;
        let part = if ramp > 0.0 { (batch.place.epochs() / ramp).min(1.0) } else { 1.0 };
        (self.settings.alpha * part) as f32
    }

    /// What each pair of a batch is about, where equal ones count as right for each other.
    fn meanings(&self, batch: &GroundedBatch) -> Option<Vec<String>> {
        self.duplicates_are_positives.then(|| batch.meanings())
    }

    /// Texts and images of a part that are hard to tell from the right ones.
    fn negatives(
        &self,
        batch: &GroundedBatch,
        part: usize,
        features: &[Tensor; 2],
        keys: Option<&Keys>,
    ) -> Option<Negatives> {
        let temp = no_grad(|| self.temp())?.item();
        let pairs = batch.parts[part].pairs.as_ref()?;
        let mut random = batch.place.random(self.seed, &[1, part as u64]);
        let of_retrieval = self.settings.task == Task::Retrieval;
        let ids = of_retrieval.then_some(pairs.ids.as_slice());
        let keys = keys.filter(|_| !of_retrieval);
        matching::draw(
            features,
            keys,
            temp,
            ids,
            if of_retrieval { 0.0 } else { self.settings.itm_floor as f32 },
            &mut random,
        )
    }

    /// The losses of a batch that is on the tape as a whole, with what the copies made of it.
    ///
    /// `negatives` are those of the first part, where they are not to be drawn.
    pub fn losses_of(
        &self,
        batch: &GroundedBatch,
        keys: Option<&Keys>,
        negatives: Option<&Negatives>,
        pass: &Pass,
    ) -> Vec<Loss> {
        let totals = self.totals(batch);
        let mut losses = Vec::new();
        let mut features: [Vec<Tensor>; 2] = Default::default();
        for (number, part) in batch.parts.iter().enumerate() {
            let pass = self.pass(batch, number, pass);
            let seen = self.look(part, &pass);
            let drawn = match (negatives, &seen.features) {
                (None, Some(features)) => {
                    let keys = keys.map(|keys| keys.part(batch.pairs_before(number), features[0].shape()[0]));
                    self.negatives(batch, number, features, keys.as_ref())
                }
                _ => None,
            };
            losses.extend(self.part_losses(
                part,
                &seen,
                negatives.or(drawn.as_ref()),
                totals,
                batch.place,
                &pass,
            ));
            if let Some([image, text]) = seen.features {
                features[0].push(image);
                features[1].push(text);
            }
        }
        if !features[0].is_empty() {
            losses.extend(self.comparisons(batch, &features.map(joined), keys));
        }
        losses
    }

    /// Part by part: vectors of all of them without a tape, the gradients of the contrast for these, then each part with
    /// all that it adds, so that one of them is on the tape at a time (GradCache, arXiv 2101.06983).
    fn gradients_by_parts(
        &self,
        batch: &GroundedBatch,
        keys: Option<&Keys>,
        pass: &Pass,
    ) -> (Metrics, Gradients) {
        let (mut metrics, mut gradients) = (Metrics::new(), Gradients::default());
        let features = self.settings.compares().then(|| self.rehearsed(batch, pass)).flatten();
        let seeds = features.and_then(|features| {
            let leaves = features.map(|x| x.leaf());
            let (named, found) = gradients_of(self.comparisons(batch, &leaves, keys));
            metrics.extend(named);
            gradients.accumulate(found);
            let [image, text] = leaves.map(|leaf| gradients.take(&leaf));
            Some([image?, text?])
        });
        let totals = self.totals(batch);
        for (number, part) in batch.parts.iter().enumerate() {
            let pass = self.pass(batch, number, pass);
            let seen = self.look(part, &pass);
            let first = batch.pairs_before(number);
            let negatives = seen.features.as_ref().and_then(|features| {
                let keys = keys.map(|keys| keys.part(first, features[0].shape()[0]));
                self.negatives(batch, number, features, keys.as_ref())
            });
            let mut losses = self.part_losses(part, &seen, negatives.as_ref(), totals, batch.place, &pass);
            for (name, loss) in &losses {
                *metrics.entry((*name).into()).or_default() += f64::from(loss.item());
            }
            if let (Some(features), Some(seeds)) = (&seen.features, &seeds) {
                for (x, seed) in features.iter().zip(seeds) {
                    let seed = ops::narrow(seed, 0, first, x.shape()[0]);
                    losses.push((ITC, ops::sum(&ops::mul(x, &seed))));
                }
            }
            gradients.accumulate(gradients_of(losses).1);
        }
        (metrics, gradients)
    }

    /// The vectors of all pairs of a batch.
    fn rehearsed(&self, batch: &GroundedBatch, pass: &Pass) -> Option<[Tensor; 2]> {
        let mut features: [Vec<Tensor>; 2] = Default::default();
        for (number, part) in batch.parts.iter().enumerate() {
            let pass = self.pass(batch, number, pass);
            if let Some([image, text]) = no_grad(|| self.look(part, &pass)).features {
                features[0].push(image);
                features[1].push(text);
            }
        }
        (!features[0].is_empty()).then(|| features.map(joined))
    }
}

/// A pass that leaves out what a seed decides, as much as settings have it.
fn settings_pass(settings: &Settings, pass: &Pass, seed: u64) -> Pass {
    let pass = pass.rehearsal().with_dropout(settings.dropout_rates(), seed);
    pass.with_drop_path(settings.drop_path as f32, seed.rotate_left(32))
}

/// Settings of a recipe, and those of PyTorch, which are the papers', where it has none.
fn settings_of_pytorch(recipe: &Recipe) -> crate::Settings {
    crate::Settings {
        betas: recipe.optimizer.betas.unwrap_or([0.9, 0.999]),
        eps: recipe.optimizer.eps.unwrap_or(1e-8),
        ..recipe.optimizer_settings(false)
    }
}

/// The same with weight decay of everything, as in BLIP.
fn settings_of_blip(recipe: &Recipe) -> crate::Settings {
    crate::Settings { decays_all: recipe.optimizer.decay_all.unwrap_or(true), ..settings_of_pytorch(recipe) }
}

/// The same with weight decay of matrices alone, as in ALBEF.
fn settings_of_albef(recipe: &Recipe) -> crate::Settings {
    crate::Settings { decays_all: recipe.optimizer.decay_all.unwrap_or(false), ..settings_of_pytorch(recipe) }
}

/// Rows of parts as those of one tensor; no copy where there is one part.
pub(crate) fn joined(parts: Vec<Tensor>) -> Tensor {
    match parts.as_slice() {
        [one] => one.clone(),
        several => ops::concat(&several.iter().collect::<Vec<_>>(), 0),
    }
}

impl Objective for Grounded {
    type Batch = GroundedBatch;

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn optimizer_settings(&self, recipe: &Recipe) -> crate::Settings {
        settings_of_blip(recipe)
    }

    /// Without the copies: of pairs of the batch alone.
    fn losses(&self, batch: &GroundedBatch, pass: &Pass) -> Result<Vec<Loss>, TrainError> {
        Ok(self.losses_of(batch, None, None, pass))
    }

    fn gradients(&self, batch: &GroundedBatch, pass: &Pass) -> Result<(Metrics, Gradients), TrainError> {
        let keys = self.teacher.as_ref().and_then(|teacher| {
            teacher.follow();
            teacher.look(batch)
        });
        let result = match batch.parts.len() {
            1 => gradients_of(self.losses_of(batch, keys.as_ref(), None, pass)),
            _ => self.gradients_by_parts(batch, keys.as_ref(), pass),
        };
        if let (Some(teacher), Some(keys)) = (&self.teacher, &keys) {
            teacher.enqueue(keys, &batch.ids());
        }
        Ok(result)
    }

    fn after_step(&self) {
        let Some(temp) = self.blip.matcher().and_then(|matcher| matcher.contrast.temp().cloned()) else {
            return;
        };
        let [low, high] = TEMPERATURES;
        let value = temp.value().item();
        let clamped = value.clamp(low, high);
        if clamped != value {
            temp.assign(&Tensor::on(temp.value().device(), &[clamped], &[]));
        }
    }

    fn gauges(&self) -> Metrics {
        let temp = no_grad(|| self.temp());
        temp.map(|temp| ("temp".to_owned(), f64::from(temp.item()))).into_iter().collect()
    }

    fn evaluate(&self, recipe: &Recipe, eval: &Eval) -> Result<Metrics, TrainError> {
        evaluation::run(self, recipe, eval)
    }

    fn export(&self, directory: &Path, dtype: ExportType) -> Result<(), TrainError> {
        export::write(&self.blip, &self.config, &self.preparation, directory, dtype)
    }
}
