//! Training of ALBEF to answer questions: a decoder of answers, and copies of all that share their opinion.
//!
//! Reference: salesforce/ALBEF `models/model_vqa.py`, `VQA.py`.

use std::path::Path;

use tuwen_data::dataset;
use tuwen_models::albef::{Albef, AlbefConfig};
use tuwen_models::bert::{BertDecoder, EncoderStates, NextTokens};
use tuwen_nn::{Parameters, Pass};
use tuwen_tensor::{Gradients, Targets, Tensor, no_grad, ops};

use super::albef::distilled;
use super::{Asked, GroundedBatch, GroundedPart, GroundedPreparation, Teacher, VQA, batch, export, written};
use crate::objective::{Loss, Objective, gradients_of};
use crate::recipe::{Albef as Settings, Eval, EvalKind, ExportType};
use crate::{Metrics, Recipe, TrainError};

/// An ALBEF that learns to answer.
pub struct FusedAnswers {
    albef: Albef,
    config: AlbefConfig,
    preparation: GroundedPreparation,
    settings: Settings,
    seed: u64,
    /// None where its opinion never counts.
    teacher: Option<Teacher<Albef>>,
    notes: Vec<String>,
    parameters: Parameters,
}

impl FusedAnswers {
    /// Trains `albef`, which was made from `config` for this task.
    ///
    /// # Errors
    /// Copies that cannot be made.
    pub fn new(
        albef: Albef,
        config: AlbefConfig,
        preparation: GroundedPreparation,
        recipe: &Recipe,
    ) -> Result<Self, TrainError> {
        let (settings, seed) = (recipe.albef.clone(), recipe.seed);
        let teacher = match settings.alpha > 0.0 {
            true => Some(Teacher::of_albef(&albef, &config, settings.momentum, 0, seed)?),
            false => None,
        };
        let copies = teacher.iter().flat_map(|teacher| teacher.parameters().iter().cloned());
        let parameters = albef.parameters().and(&copies.collect());
        Ok(Self { albef, config, preparation, settings, seed, teacher, notes: Vec::new(), parameters })
    }

    /// With what is to be said of the network before it learns.
    #[must_use]
    pub fn with_notes(self, notes: Vec<String>) -> Self {
        Self { notes, ..self }
    }

    /// The network.
    pub fn albef(&self) -> &Albef {
        &self.albef
    }

    /// The cross entropy of the answers of a part, each by its weight, over so many questions. The copies' opinion of each
    /// token is a part `alpha` of its target.
    fn loss(&self, part: &GroundedPart, questions: usize, alpha: f32, pass: &Pass) -> Option<Loss> {
        let asked = part.asked.as_ref()?;
        let next = NextTokens::of(&asked.answers, 1);
        let taught = self.teacher.as_ref().filter(|_| alpha > 0.0);
        let taught = taught.and_then(|teacher| {
            no_grad(|| logits(teacher.network(), &part.pixel_values, asked, &next, &Pass::eval()))
        });
        let logits = logits(&self.albef, &part.pixel_values, asked, &next, pass)?;
        let each = 1.0 / questions.max(1) as f32;
        let weights: Vec<f32> = next.rows.iter().map(|&row| asked.weights[row as usize] * each).collect();
        let soft = taught.map(|taught| distilled(&taught, &next.ids, alpha));
        let targets = soft.as_deref().map_or(Targets::Classes(&next.ids), Targets::Soft);
        Some((VQA, ops::weighted_cross_entropy(&logits, targets, &weights)))
    }

    /// The loss of each part, as it counts in its batch.
    fn parts<'b>(&'b self, batch: &'b GroundedBatch, pass: &'b Pass) -> impl Iterator<Item = Loss> {
        let asked = |part: &GroundedPart| part.asked.as_ref().map_or(0, |asked| asked.images.len());
        let questions = batch.parts.iter().map(asked).sum();
        let alpha = self.settings.alpha_after(batch.place.epochs());
        batch.parts.iter().zip(0..).filter_map(move |(part, number)| {
            let seed = batch.place.random(self.seed, &[0, number]).next_u64();
            let pass = pass.rehearsal().with_dropout(self.settings.dropout_rates(), seed);
            self.loss(part, questions, alpha, &pass)
        })
    }
}

/// Questions about images as a decoder of answers looks at them; padding is not looked at.
fn read(albef: &Albef, pixel_values: &Tensor, asked: &Asked, pass: &Pass) -> EncoderStates {
    let images = batch::seen_by(&albef.image(pixel_values, pass), &asked.images);
    let questions = EncoderStates::new(albef.multimodal(&asked.tokens, &images, pass));
    questions.with_mask(asked.tokens.attention_mask.clone())
}

/// Logits of the next tokens of answers `[tokens, vocab_size]`; nothing without a decoder.
fn logits(
    albef: &Albef,
    pixel_values: &Tensor,
    asked: &Asked,
    next: &NextTokens,
    pass: &Pass,
) -> Option<Tensor> {
    let decoder: &BertDecoder = albef.text_decoder()?;
    let questions = batch::repeated(&read(albef, pixel_values, asked, pass), &asked.question_of_answer);
    Some(decoder.next_logits(&asked.answers, &questions, next, pass))
}

impl Objective for FusedAnswers {
    type Batch = GroundedBatch;

    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn optimizer_settings(&self, recipe: &Recipe) -> crate::Settings {
        super::settings_of_albef(recipe)
    }

    fn losses(&self, batch: &GroundedBatch, pass: &Pass) -> Result<Vec<Loss>, TrainError> {
        Ok(self.parts(batch, pass).collect())
    }

    /// The copies follow; then one part is on the tape at a time.
    fn gradients(&self, batch: &GroundedBatch, pass: &Pass) -> Result<(Metrics, Gradients), TrainError> {
        self.teacher.iter().for_each(Teacher::follow);
        let (mut metrics, mut gradients) = (Metrics::new(), Gradients::default());
        for loss in self.parts(batch, pass) {
            let (losses, of_part) = gradients_of(vec![loss]);
            losses.into_iter().for_each(|(name, loss)| *metrics.entry(name).or_default() += loss);
            gradients.accumulate(of_part);
        }
        Ok((metrics, gradients))
    }

    fn evaluate(&self, recipe: &Recipe, eval: &Eval) -> Result<Metrics, TrainError> {
        let decoder = self.albef.text_decoder().filter(|_| eval.kind == EvalKind::Vqa);
        let decoder = decoder.ok_or_else(|| TrainError::Eval {
            eval: eval.name(),
            reason: "an ALBEF for questions has the evaluation \"vqa\" alone".into(),
        })?;
        let dataset = dataset::open(&recipe.dataset(&eval.dataset()))?;
        let read =
            |pixel_values: &Tensor, asked: &Asked| read(&self.albef, pixel_values, asked, &Pass::eval());
        written::answers(decoder, &self.preparation, dataset.as_ref(), &read)
    }

    fn export(&self, directory: &Path, dtype: ExportType) -> Result<(), TrainError> {
        export::write_albef(&self.config, &self.albef, &self.preparation, directory, dtype)
    }
}

#[cfg(test)]
mod tests {
    use tuwen_models::TokenIds;
    use tuwen_models::albef::{AlbefTask, presets};
    use tuwen_models::bert::CrossAttentionConfig;
    use tuwen_nn::Scope;

    use super::*;

    fn config() -> AlbefConfig {
        let mut config = presets::find("albef").expect("published");
        let vision = &mut config.vision;
        (vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers) = (16, 16, 1);
        (vision.num_attention_heads, vision.image_size, vision.patch_size) = (2, 16, 8);
        let text = &mut config.text;
        (text.vocab_size, text.hidden_size, text.intermediate_size) = (30, 16, 12);
        (text.num_hidden_layers, text.num_attention_heads, text.max_position_embeddings) = (2, 2, 8);
        text.cross_attention =
            Some(CrossAttentionConfig { first_layer: 1, ..CrossAttentionConfig::everywhere(16) });
        config.for_task(AlbefTask::Vqa)
    }

    fn tokens(rows: usize, length: usize) -> TokenIds {
        let ids = (0..rows * length).map(|i| (i * 7 % 30) as u32).collect();
        let mut mask = vec![true; rows * length];
        mask[rows * length - 1] = false;
        TokenIds { ids, length, attention_mask: Some(mask) }
    }

    /// By hand, as the reference has it: a share of the cross entropy with the answer's tokens, and the rest of that with
    /// what a copy thinks of each, weighted by answer and divided by the number of questions.
    #[test]
    fn the_loss_is_that_of_the_reference() {
        let [student, copy] = [1, 2].map(|seed| {
            Albef::new(&config(), Scope::init(seed).with_spread(10.0)).expect("nothing is loaded")
        });
        let pixels: Vec<f32> = (0..2 * 3 * 16 * 16).map(|i| (i as f32 * 0.37).sin()).collect();
        let asked = Asked {
            images: vec![0, 1],
            tokens: tokens(2, 5),
            answers: tokens(3, 4),
            question_of_answer: vec![0, 0, 1],
            weights: vec![0.7, 0.3, 1.0],
        };
        let pixel_values = Tensor::new(&pixels, &[2, 3, 16, 16]);
        let next = NextTokens::of(&asked.answers, 1);
        let logits_of = |albef: &Albef| {
            logits(albef, &pixel_values, &asked, &next, &Pass::eval()).expect("a decoder").to_vec()
        };
        let log_softmax = |row: &[f32]| {
            let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            row.iter().map(|&x| f64::from(x) - sum.ln()).collect::<Vec<f64>>()
        };
        let (ours, theirs) = (logits_of(&student), logits_of(&copy));
        let alpha = 0.4;
        let mut expected = 0.0;
        for (i, (&id, &answer)) in next.ids.iter().zip(&next.rows).enumerate() {
            let [ours, theirs] = [&ours, &theirs].map(|all| log_softmax(&all[30 * i..][..30]));
            let soft: f64 = ours.iter().zip(&theirs).map(|(ours, theirs)| theirs.exp() * ours).sum();
            let token = -(1.0 - alpha) * ours[id as usize] - alpha * soft;
            expected += f64::from(asked.weights[answer as usize]) * token / 2.0;
        }
        let targets = distilled(&Tensor::new(&theirs, &[next.ids.len(), 30]), &next.ids, alpha as f32);
        let weights: Vec<f32> = next.rows.iter().map(|&row| asked.weights[row as usize] / 2.0).collect();
        let ours = Tensor::new(&ours, &[next.ids.len(), 30]);
        let got = ops::weighted_cross_entropy(&ours, Targets::Soft(&targets), &weights).item();
        assert!((f64::from(got) - expected).abs() < 1e-5 * expected, "{got} {expected}");
        assert_eq!(next.ids.len(), 8, "padding is not predicted");
    }
}
