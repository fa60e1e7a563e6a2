//! Batches of pairs in parts that go through ALBEF one at a time.

use tuwen_models::albef::AlbefTask;
use tuwen_nn::Pass;
use tuwen_tensor::{Gradients, Tensor, no_grad, ops};

use super::{Fused, PlacedBatch};
use crate::Metrics;
use crate::grounded::albef::{MLM, Seen};
use crate::grounded::contrast::Keys;
use crate::grounded::masking::Masked;
use crate::grounded::{FusedBatch, ITC, ITM, Taught, joined, matching};
use crate::objective::{Loss, gradients_of};

/// A part of a batch with all that is decided before the network sees it.
pub(super) struct Prepared {
    pairs: FusedBatch,
    taught: Taught,
    /// Pairs in the parts before it.
    first: usize,
    /// What part it is of the pairs of its batch, and of the masked tokens.
    shares: [f32; 2],
    /// Decides what is left out.
    dropout_seed: u64,
    /// Decides the wrong partners.
    partners: tuwen_data::rng::Rng,
}

impl Fused {
    /// Lets the copies follow and look at all parts; hides tokens.
    pub(super) fn prepare(&self, batch: &PlacedBatch) -> Vec<Prepared> {
        self.fused.teacher().follow();
        let mut parts: Vec<Prepared> = batch
            .parts
            .iter()
            .zip(0..)
            .filter_map(|(pairs, number)| self.prepared(batch, pairs, number))
            .collect();
        let hidden = |part: &Prepared| part.pairs.masked.as_ref().map_or(0, |masked| masked.ids.len());
        let count = |part: &Prepared| part.pairs.ids.len();
        let all = [parts.iter().map(count).sum::<usize>(), parts.iter().map(hidden).sum()];
        let mut first = 0;
        for part in &mut parts {
            part.first = first;
            first += count(part);
            part.shares =
                [(count(part), all[0]), (hidden(part), all[1])].map(|(n, all)| n as f32 / all.max(1) as f32);
        }
        parts
    }

    fn prepared(&self, batch: &PlacedBatch, pairs: &FusedBatch, number: u64) -> Option<Prepared> {
        // The first part has the random numbers of a batch that is whole.
        let random = |purpose: u64| {
            let name = [purpose, number];
            batch.place.random(self.seed, &name[..if number == 0 { 1 } else { 2 }])
        };
        let masked = (self.config.task == AlbefTask::Pretrain).then(|| {
            let probability = self.settings.mlm_probability as f32;
            Masked::draw(&pairs.tokens, probability, self.ids, &mut random(2))
        });
        let pairs = FusedBatch {
            pixel_values: pairs.pixel_values.clone(),
            tokens: pairs.tokens.clone(),
            ids: pairs.ids.clone(),
            masked: masked.filter(|masked| !masked.places.is_empty()),
        };
        let taught = self.fused.taught(&pairs)?;
        let (dropout_seed, partners) = (random(0).next_u64(), random(1));
        Some(Prepared { pairs, taught, first: 0, shares: [1.0; 2], dropout_seed, partners })
    }

    /// The pass of a part, which leaves out the same each time.
    fn pass_of(&self, part: &Prepared, pass: &Pass) -> Pass {
        pass.rehearsal().with_dropout(self.settings.dropout_rates(), part.dropout_seed)
    }

    /// The losses of a batch that is on the tape as a whole.
    pub(super) fn losses_of_whole(&self, batch: &PlacedBatch, pass: &Pass) -> Vec<Loss> {
        let parts = self.prepare(batch);
        let see = |part: &Prepared| {
            let pass = self.pass_of(part, pass);
            Some((self.fused.look(&part.pairs, &pass)?, pass))
        };
        let seen: Vec<(Seen, Pass)> = parts.iter().filter_map(see).collect();
        let (keys, features) = (keys_of(&parts), features_of(seen.iter().map(|(seen, _)| &seen.features)));
        let mut losses = Vec::new();
        losses.extend(self.contrast(batch, &features, &keys));
        for (part, (seen, pass)) in parts.iter().zip(&seen) {
            losses.extend(self.part_losses(batch, part, seen, pass));
        }
        self.fused.teacher().enqueue(&keys, &batch.ids());
        losses
    }

    /// Part by part: vectors of all of them without a tape, the gradients of the contrast for these, then each part with
    /// all that it adds (GradCache, arXiv 2101.06983).
    pub(super) fn gradients_by_parts(&self, batch: &PlacedBatch, pass: &Pass) -> (Metrics, Gradients) {
        let (mut metrics, mut gradients) = (Metrics::new(), Gradients::default());
        let parts = self.prepare(batch);
        let keys = keys_of(&parts);
        let rehearse = |part: &Prepared| {
            let seen = no_grad(|| self.fused.look(&part.pairs, &self.pass_of(part, pass)));
            seen.map(|seen| seen.features)
        };
        let rehearsed: Vec<[Tensor; 2]> = parts.iter().filter_map(rehearse).collect();
        let leaves = features_of(rehearsed.iter()).map(|features| features.leaf());
        let seeds = self.contrast(batch, &leaves, &keys).and_then(|(name, loss)| {
            metrics.insert(name.into(), f64::from(loss.item()));
            gradients.accumulate(loss.backward());
            let [image, text] = leaves.each_ref().map(|leaf| gradients.take(leaf));
            Some([image?, text?])
        });
        for part in &parts {
            let pass = self.pass_of(part, pass);
            let Some(seen) = self.fused.look(&part.pairs, &pass) else { continue };
            let mut losses = self.part_losses(batch, part, &seen, &pass);
            for (name, loss) in &losses {
                *metrics.entry((*name).into()).or_default() += f64::from(loss.item());
            }
            if let Some(seeds) = &seeds {
                let of_part = |(x, seed): (&Tensor, &Tensor)| {
                    let seed = ops::narrow(seed, 0, part.first, x.shape()[0]);
                    (ITC, ops::sum(&ops::mul(x, &seed)))
                };
                losses.extend(seen.features.iter().zip(seeds).map(of_part));
            }
            gradients.accumulate(gradients_of(losses).1);
        }
        self.fused.teacher().enqueue(&keys, &batch.ids());
        (metrics, gradients)
    }

    fn contrast(&self, batch: &PlacedBatch, features: &[Tensor; 2], keys: &Keys) -> Option<Loss> {
        let alpha = self.settings.alpha_after(batch.place.epochs());
        Some((ITC, self.fused.contrast(features, keys, &batch.ids(), alpha)?))
    }

    /// Matching and masked tokens of a part, as it counts in its batch.
    fn part_losses(&self, batch: &PlacedBatch, part: &Prepared, seen: &Seen, pass: &Pass) -> Vec<Loss> {
        let temp = no_grad(|| self.temp()).map_or(1.0, |temp| temp.item());
        let ids = (self.config.task == AlbefTask::Retrieval).then_some(&part.pairs.ids[..]);
        let (features, keys) = (&seen.features, Some(&part.taught.keys));
        let negatives = matching::draw(features, keys, temp, ids, 0.0, &mut part.partners.clone());
        let alpha = self.settings.alpha_after(batch.place.epochs());
        let (taught, negatives) = (part.taught.masked.as_ref(), negatives.as_ref());
        let losses = self.fused.fused_losses(&part.pairs, seen, taught, negatives, alpha, pass);
        let share = |name| match name {
            ITM => part.shares[0],
            MLM => part.shares[1],
            _ => 1.0,
        };
        losses.into_iter().map(|(name, loss)| (name, ops::scale(&loss, share(name)))).collect()
    }
}

fn keys_of(parts: &[Prepared]) -> Keys {
    Keys::joined(&parts.iter().map(|part| &part.taught.keys).collect::<Vec<_>>())
}

/// Vectors of images and texts of a whole batch from those of its parts.
fn features_of<'f>(parts: impl Iterator<Item = &'f [Tensor; 2]>) -> [Tensor; 2] {
    let (images, texts) = parts.map(|[image, text]| (image.clone(), text.clone())).unzip();
    [joined(images), joined(texts)]
}
