//! Training of ALBEF: contrast with copies that follow slowly, matching, and masked tokens.
//!
//! References: salesforce/ALBEF `models/model_{pretrain,retrieval}.py`; arXiv 2107.07651, sections 3.2 and 3.3.

use tuwen_models::TokenIds;
use tuwen_models::albef::{Albef, AlbefConfig, AlbefTask};
use tuwen_models::bert::EncoderStates;
use tuwen_nn::Pass;
use tuwen_tensor::{Targets, Tensor, no_grad, ops};

use super::contrast::Keys;
use super::masking::Masked;
use super::matching::{self, Negatives};
use super::momentum::Teacher;
use super::{ITC, ITM};
use crate::TrainError;
use crate::objective::Loss;

/// The name of the loss of masked tokens in the log.
pub(super) const MLM: &str = "mlm";

/// How the copies follow and how much they count.
#[derive(Clone, Copy, Debug)]
pub struct AlbefSettings {
    /// Share of the past in the copies.
    pub momentum: f64,
    /// Vectors of earlier batches that are compared as well.
    pub queue_size: usize,
    /// Decides the first, random vectors of the queues.
    pub seed: u64,
}

/// Pairs, and their texts with masked tokens.
pub struct FusedBatch {
    /// `[pairs, 3, size, size]`.
    pub pixel_values: Tensor,
    /// `[pairs, tokens]`.
    pub tokens: TokenIds,
    /// A number for each image, by which retrieval knows the same one again.
    pub ids: Vec<u32>,
    /// What is to be predicted, in pre-training.
    pub masked: Option<Masked>,
}

/// ALBEF with its copies, which learns from pairs.
pub struct FusedPairs {
    albef: Albef,
    task: AlbefTask,
    teacher: Teacher<Albef>,
}

/// What the network sees of a batch, or a part of one.
pub(super) struct Seen {
    pub images: EncoderStates,
    /// States of texts after the lower layers.
    pub text: Tensor,
    /// Vectors of images and texts.
    pub features: [Tensor; 2],
}

/// What the copies make of a batch.
pub struct Taught {
    /// Vectors of images and texts.
    pub keys: Keys,
    /// Logits of what was masked, `[masked, vocab_size]`.
    pub masked: Option<Tensor>,
}

impl FusedPairs {
    /// Trains a network, which was made from `config`.
    ///
    /// # Errors
    /// Copies that cannot be made.
    pub fn new(albef: Albef, config: &AlbefConfig, settings: AlbefSettings) -> Result<Self, TrainError> {
        let AlbefSettings { momentum, queue_size, seed } = settings;
        let teacher = Teacher::of_albef(&albef, config, momentum, queue_size, seed)?;
        Ok(Self { albef, task: config.task, teacher })
    }

    /// The network.
    pub fn albef(&self) -> &Albef {
        &self.albef
    }

    /// Its copies.
    pub fn teacher(&self) -> &Teacher<Albef> {
        &self.teacher
    }

    /// Lets the copies follow, and look at a batch.
    pub fn teach(&self, batch: &FusedBatch) -> Option<Taught> {
        self.teacher.follow();
        self.taught(batch)
    }

    /// What the copies make of a batch, or a part of one.
    pub(super) fn taught(&self, batch: &FusedBatch) -> Option<Taught> {
        let (network, pass) = (self.teacher.network(), Pass::eval());
        let contrast = network.contrast()?;
        no_grad(|| {
            let image = network.image(&batch.pixel_values, &pass);
            let texts = contrast.embed_text(&network.text(&batch.tokens, &pass), &pass);
            let keys = Keys { images: contrast.embed_image(&image, &pass), texts };
            let images = EncoderStates::new(image);
            let masked = batch.masked.as_ref();
            let masked = masked.and_then(|masked| predicted(network, masked, &images, &pass));
            Some(Taught { keys, masked })
        })
    }

    /// The losses of a batch, with what the copies teach. `draw` gives wrong partners from the vectors of the pairs.
    pub fn losses(
        &self,
        batch: &FusedBatch,
        taught: &Taught,
        alpha: f32,
        draw: impl FnOnce(&[Tensor; 2]) -> Option<Negatives>,
        pass: &Pass,
    ) -> Vec<Loss> {
        let Some(seen) = self.look(batch, pass) else { return Vec::new() };
        let contrast = self.contrast(&seen.features, &taught.keys, &batch.ids, alpha);
        let mut losses: Vec<Loss> = contrast.map(|loss| (ITC, loss)).into_iter().collect();
        let negatives = draw(&seen.features);
        losses.extend(self.fused_losses(
            batch,
            &seen,
            taught.masked.as_ref(),
            negatives.as_ref(),
            alpha,
            pass,
        ));
        losses
    }

    /// What the network sees of a batch, or a part of one; nothing in one that compares nothing.
    pub(super) fn look(&self, batch: &FusedBatch, pass: &Pass) -> Option<Seen> {
        let (contrast, albef) = (self.albef.contrast()?, &self.albef);
        let (image, text) = (albef.image(&batch.pixel_values, pass), albef.text(&batch.tokens, pass));
        let features = [contrast.embed_image(&image, pass), contrast.embed_text(&text, pass)];
        Some(Seen { images: albef.project(&EncoderStates::new(image)), text, features })
    }

    /// The contrast of a whole batch, whose images have these numbers.
    pub(super) fn contrast(
        &self,
        features: &[Tensor; 2],
        keys: &Keys,
        ids: &[u32],
        alpha: f32,
    ) -> Option<Tensor> {
        let temp = self.albef.contrast()?.temp()?.value();
        let ids = (self.task == AlbefTask::Retrieval).then_some(ids);
        Some(self.teacher.contrast(features, keys, ids, &temp, alpha))
    }

    /// Matching and masked tokens of a batch, or a part of one, each as a mean over it.
    pub(super) fn fused_losses(
        &self,
        batch: &FusedBatch,
        seen: &Seen,
        taught: Option<&Tensor>,
        negatives: Option<&Negatives>,
        alpha: f32,
        pass: &Pass,
    ) -> Vec<Loss> {
        let (albef, tokens, images) = (&self.albef, &batch.tokens, &seen.images);
        let logits = |rows: &[u32], images: &EncoderStates| {
            let text = super::batch::images_of(&seen.text, rows);
            let fused = albef.fuse(&text, &tokens.select(rows), images, pass);
            // A network that compares has the head as well.
            albef.itm_logits(&fused).unwrap_or(fused)
        };
        let mut losses = vec![(ITM, matching::loss(tokens.batch(), images, negatives, logits))];
        losses.extend(batch.masked.as_ref().and_then(|masked| {
            let logits = predicted(albef, masked, images, pass)?;
            Some((MLM, masked_loss(&logits, &masked.ids, taught, alpha)))
        }));
        losses
    }
}

/// Logits of what was masked in texts beside images: `[masked, vocab_size]`.
fn predicted(albef: &Albef, masked: &Masked, images: &EncoderStates, pass: &Pass) -> Option<Tensor> {
    let states = albef.multimodal(&masked.tokens, images, pass);
    let [rows, length, width] = states.dims();
    albef.mlm_logits(&ops::gather_rows(&states.reshape(&[rows * length, width]), &masked.places))
}

/// Cross entropy of masked tokens, of whose targets the copies' opinion is a part `alpha`.
fn masked_loss(logits: &Tensor, ids: &[u32], taught: Option<&Tensor>, alpha: f32) -> Tensor {
    match taught.filter(|_| alpha > 0.0) {
        Some(taught) => ops::cross_entropy(logits, Targets::Soft(&distilled(taught, ids, alpha))),
        None => ops::cross_entropy(logits, Targets::Classes(ids)),
    }
}

/// Targets of tokens: a part `alpha` as logits `[tokens, vocab_size]` of copies have it, the rest the tokens themselves.
pub(super) fn distilled(taught: &Tensor, ids: &[u32], alpha: f32) -> Vec<f32> {
    let mut targets = ops::softmax(taught).to_vec();
    for (row, &id) in targets.chunks_exact_mut(taught.last_dim()).zip(ids) {
        row.iter_mut().for_each(|target| *target *= alpha);
        row[id as usize] += 1.0 - alpha;
    }
    targets
}
