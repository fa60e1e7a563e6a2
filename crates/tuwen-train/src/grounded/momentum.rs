//! Copies of the encoders that follow slowly, and queues of what they made (arXiv 1911.05722, 2107.07651).

use tuwen_models::albef::{Albef, AlbefConfig};
use tuwen_models::blip::{Blip, BlipConfig, BlipTask};
use tuwen_nn::{Entry, Init, Kind, Parameters, Pass, Scope};
use tuwen_tensor::{Param, Tensor, no_grad, ops};

use super::contrast::{self, Keys, similarities};
use super::{GroundedBatch, joined};
use crate::TrainError;

/// Before the names of the copies.
const PREFIX: &str = "momentum";
/// No image has this number.
const NO_IMAGE: f32 = -100.0;

/// The copies and the queues. They are saved with a run and belong to no model.
pub struct Teacher<N = Blip> {
    network: N,
    momentum: f64,
    /// What is followed, and what follows.
    pairs: Vec<(Param, Param)>,
    queue: Option<Queue>,
    parameters: Parameters,
}

/// The newest vectors of earlier batches, in a ring.
struct Queue {
    /// `[size, dim]`.
    images: Param,
    /// `[size, dim]`.
    texts: Param,
    /// `[size]`: the number of the image of each.
    ids: Param,
    /// Where the next ones go.
    next: Param,
}

impl Teacher<Blip> {
    /// Copies of what compares images and texts in a network, and empty queues: random unit vectors of no image.
    ///
    /// # Errors
    /// A network that compares nothing.
    pub fn new(
        of: &Blip,
        config: &BlipConfig,
        momentum: f64,
        queue_size: usize,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let config =
            BlipConfig { task: BlipTask::Retrieval, temperature: false, answers: false, ..config.clone() };
        let network = Blip::new(&config, scope_beside(of.parameters()))?;
        let copies = network.parameters().clone();
        let queue = (queue_size, config.image_text_hidden_size, seed);
        Ok(Self::following(network, &copies, of.parameters(), momentum, queue))
    }

    /// What the copies make of the pairs of a batch.
    pub fn look(&self, batch: &GroundedBatch) -> Option<Keys> {
        let (matcher, pass) = (self.network.matcher()?, Pass::eval());
        let mut features: [Vec<Tensor>; 2] = Default::default();
        no_grad(|| {
            for part in &batch.parts {
                let Some(pairs) = &part.pairs else { continue };
                let states = matcher.encoders.image(&part.pixel_values, &pass);
                let images = super::batch::images_of(&states, &pairs.images);
                features[0].push(matcher.contrast.embed_image(&images, &pass));
                features[1].push(matcher.embed_text(&pairs.tokens, &pass));
            }
        });
        let [images, texts] = features;
        (!images.is_empty()).then(|| Keys { images: joined(images), texts: joined(texts) })
    }
}

impl Teacher<Albef> {
    /// As for BLIP; what predicts masked tokens has a copy too.
    ///
    /// # Errors
    /// Never: a network that was made can be made again.
    pub fn of_albef(
        of: &Albef,
        config: &AlbefConfig,
        momentum: f64,
        queue_size: usize,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let config = AlbefConfig { temperature: false, ..config.clone() };
        let network = Albef::new(&config, scope_beside(of.parameters()))?;
        let copies = network.parameters().clone();
        let queue = (queue_size, config.embed_dim.unwrap_or_default(), seed);
        Ok(Self::following(network, &copies, of.parameters(), momentum, queue))
    }

    /// The copy.
    pub(super) fn network(&self) -> &Albef {
        &self.network
    }
}

impl<N> Teacher<N> {
    fn following(
        network: N,
        copies: &Parameters,
        followed: &Parameters,
        momentum: f64,
        (queue_size, dim, seed): (usize, usize, u64),
    ) -> Self {
        let mut pairs = Vec::new();
        let mut entries = Vec::new();
        for Entry { name, param: copy, .. } in copies.iter() {
            copy.set_trainable(false);
            // Matching has no copy.
            let Some(followed) = followed.get(name).filter(|_| !name.starts_with("itm_head.")) else {
                continue;
            };
            let value = followed.param.value();
            copy.assign(&Tensor::on(value.device(), &value.to_vec(), value.shape()));
            pairs.push((followed.param.clone(), copy.clone()));
            entries.push(Entry { name: format!("{PREFIX}.{name}"), param: copy.clone(), kind: Kind::Buffer });
        }
        let scope = if is_on_shapes(followed) { Scope::count() } else { Scope::init(seed) };
        let queue = (queue_size > 0).then(|| Queue::new(queue_size, dim, &scope));
        entries.extend(queue.iter().flat_map(Queue::entries));
        Self { network, momentum, pairs, queue, parameters: entries.into_iter().collect() }
    }

    /// Copies and queues, by name.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Moves the copies a little towards what they follow.
    pub fn follow(&self) {
        for (followed, copy) in &self.pairs {
            copy.lerp(&followed.value(), (1.0 - self.momentum) as f32);
        }
    }

    /// The contrast of pairs with what the copies made of them and of earlier batches. By `ids`, where they are given, all
    /// of an image are right for each other.
    pub(super) fn contrast(
        &self,
        features: &[Tensor; 2],
        keys: &Keys,
        ids: Option<&[u32]>,
        temp: &Tensor,
        alpha: f32,
    ) -> Tensor {
        let all = match &self.queue {
            Some(queue) => Keys {
                images: ops::concat(&[&keys.images, &queue.images.value()], 0),
                texts: ops::concat(&[&keys.texts, &queue.texts.value()], 0),
            },
            None => keys.part(0, keys.images.shape()[0]),
        };
        let known: Option<Vec<f32>> = ids.map(|ids| {
            let queued = self.queue.as_ref().map(|queue| queue.ids.value().to_vec()).unwrap_or_default();
            ids.iter().map(|&id| id as f32).chain(queued).collect()
        });
        let is_right = |row: usize, key: usize| known.as_ref().map_or(row == key, |ids| ids[row] == ids[key]);
        let of = |rows: &Tensor, keys: &Tensor| {
            contrast::targets(&no_grad(|| similarities(rows, keys, &temp.detach())), alpha, is_right)
        };
        let targets = [of(&keys.images, &all.texts), of(&keys.texts, &all.images)];
        contrast::with_targets(features, &all, temp, &targets)
    }

    /// Puts what the copies made of a batch in place of the oldest.
    pub fn enqueue(&self, keys: &Keys, ids: &[u32]) {
        if let Some(queue) = &self.queue {
            queue.put(keys, ids);
        }
    }
}

impl Queue {
    fn new(size: usize, dim: usize, scope: &Scope) -> Self {
        let vectors = |name| {
            let drawn = scope.buffer(name, &[size, dim], Init::Normal(1.0));
            drawn.assign(&ops::l2_normalize(&drawn.value()));
            drawn
        };
        Self {
            images: vectors("image_queue"),
            texts: vectors("text_queue"),
            ids: scope.buffer("idx_queue", &[size], Init::Const(NO_IMAGE)),
            next: scope.buffer("queue_ptr", &[], Init::ZEROS),
        }
    }

    fn entries(&self) -> [Entry; 4] {
        let entry = |name: &str, param: &Param| Entry {
            name: format!("{PREFIX}.{name}"),
            param: param.clone(),
            kind: Kind::Buffer,
        };
        [
            entry("image_queue", &self.images),
            entry("text_queue", &self.texts),
            entry("idx_queue", &self.ids),
            entry("queue_ptr", &self.next),
        ]
    }

    fn put(&self, keys: &Keys, ids: &[u32]) {
        let [size, dim] = self.images.value().dims();
        let next = self.next.value().item() as usize;
        for (queue, new) in [(&self.images, &keys.images), (&self.texts, &keys.texts)] {
            replace(queue, &new.to_vec(), next * dim);
        }
        replace(&self.ids, &ids.iter().map(|&id| id as f32).collect::<Vec<_>>(), next);
        self.next.assign(&Tensor::full(((next + ids.len()) % size) as f32, &[]));
    }
}

/// Whether a network has shapes alone, for an estimate of its memory.
fn is_on_shapes(parameters: &Parameters) -> bool {
    parameters.iter().next().is_some_and(|entry| !entry.param.value().is_on_cpu())
}

/// Where copies of a network come from, before they take its values.
fn scope_beside(parameters: &Parameters) -> Scope {
    if is_on_shapes(parameters) { Scope::count() } else { Scope::init(0) }
}

/// Replaces values of a ring from a place on.
fn replace(ring: &Param, new: &[f32], first: usize) {
    let old = ring.value();
    let mut values = old.to_vec();
    let size = values.len();
    new.iter().enumerate().for_each(|(i, &value)| values[(first + i) % size] = value);
    ring.assign(&Tensor::on(old.device(), &values, old.shape()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_a_ring() {
        let queue = Queue::new(4, 2, &Scope::init(1));
        assert_eq!(queue.ids.value().to_vec(), [NO_IMAGE; 4]);
        let keys =
            |value: f32| Keys { images: Tensor::full(value, &[3, 2]), texts: Tensor::full(-value, &[3, 2]) };
        queue.put(&keys(1.0), &[1, 2, 3]);
        queue.put(&keys(2.0), &[4, 5, 6]);
        assert_eq!(queue.ids.value().to_vec(), [5.0, 6.0, 3.0, 4.0]);
        assert_eq!(queue.images.value().to_vec(), [2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
        assert_eq!(queue.texts.value().to_vec()[4], -1.0);
        assert_eq!(queue.next.value().item(), 2.0);
    }
}
