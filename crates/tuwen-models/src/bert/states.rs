//! What cross-attention looks at, and what decoding keeps.

use std::borrow::Cow;
use std::sync::Arc;

use tuwen_nn::KeyValues;
use tuwen_tensor::{AttentionMask, Tensor, ops};

/// States that a BERT looks at: those of images, or of questions. A clone shares them.
///
/// Texts may be several times as many: then those that look at the same states stand together, as beams of an image do.
#[derive(Clone)]
pub struct EncoderStates {
    seen: Seen,
    /// `[batch, tokens]`, true where a state may be seen.
    mask: Option<Arc<[bool]>>,
}

#[derive(Clone)]
enum Seen {
    /// `[batch, tokens, encoder_width]`.
    States(Tensor),
    /// Keys and values of each layer that looks at them.
    Projected(Arc<[Option<KeyValues>]>),
}

impl EncoderStates {
    /// States `[batch, tokens, encoder_width]`, all of which are seen. Each layer projects them when it runs.
    pub fn new(states: Tensor) -> Self {
        Self { seen: Seen::States(states), mask: None }
    }

    /// The same, of which only those are seen where `mask` `[batch, tokens]` is true.
    #[must_use]
    pub fn with_mask(self, mask: Option<Vec<bool>>) -> Self {
        Self { mask: mask.map(Into::into), ..self }
    }

    pub(super) fn projected(&self, project: impl FnMut(&Tensor) -> Vec<Option<KeyValues>>) -> Self {
        let mut project = project;
        let seen = match &self.seen {
            Seen::States(states) => Seen::Projected(project(states).into()),
            projected => projected.clone(),
        };
        Self { seen, mask: self.mask.clone() }
    }

    /// Those of some of the images, by their numbers: copies what they have.
    #[must_use]
    pub fn select(&self, images: &[u32]) -> Self {
        let seen = match &self.seen {
            Seen::States(states) => {
                let [batch, tokens, width] = states.dims();
                let rows = ops::gather_rows(&states.reshape(&[batch, tokens * width]), images);
                Seen::States(rows.reshape(&[images.len(), tokens, width]))
            }
            Seen::Projected(layers) => {
                Seen::Projected(layers.iter().map(|layer| Some(layer.as_ref()?.select(images))).collect())
            }
        };
        let mask = self.mask.as_ref().map(|mask| {
            let tokens = mask.len() / self.batch().max(1);
            images
                .iter()
                .flat_map(|&image| mask[image as usize * tokens..][..tokens].iter().copied())
                .collect()
        });
        Self { seen, mask }
    }

    /// Number of images.
    pub fn batch(&self) -> usize {
        match &self.seen {
            Seen::States(states) => states.shape()[0],
            Seen::Projected(layers) => layers.iter().flatten().next().map_or(0, KeyValues::batch),
        }
    }

    /// What a layer looks at: the states, or keys and values that were made of them.
    pub(super) fn seen_by(&self, layer: usize) -> Vec<Tensor> {
        match &self.seen {
            Seen::States(states) => vec![states.clone()],
            Seen::Projected(layers) => {
                layers[layer].iter().flat_map(|seen| [seen.keys.clone(), seen.values.clone()]).collect()
            }
        }
    }

    /// For this layer alone, from what [`EncoderStates::seen_by`] gave.
    pub(super) fn of_seen(layer: usize, seen: &[Tensor], mask: Option<Arc<[bool]>>) -> Self {
        let seen = match seen {
            [keys, values] => {
                let mut layers = vec![None; layer + 1];
                layers[layer] = Some(KeyValues { keys: keys.clone(), values: values.clone() });
                Seen::Projected(layers.into())
            }
            states => Seen::States(states[0].clone()),
        };
        Self { seen, mask }
    }

    /// Which states are seen, shared.
    pub(super) fn shared_mask(&self) -> Option<Arc<[bool]>> {
        self.mask.clone()
    }

    /// Keys and values for a layer.
    pub(super) fn keys_values(
        &self,
        layer: usize,
        project: impl FnOnce(&Tensor) -> KeyValues,
    ) -> Cow<'_, KeyValues> {
        match &self.seen {
            Seen::States(states) => Cow::Owned(project(states)),
            Seen::Projected(layers) => {
                Cow::Borrowed(layers[layer].as_ref().expect("states are projected for each layer that looks"))
            }
        }
    }

    pub(super) fn mask(&self) -> AttentionMask<'_> {
        AttentionMask { causal: false, keys: self.mask.as_deref() }
    }
}

/// Keys and values of the tokens that a decoder has seen. It begins empty.
#[derive(Clone, Default)]
pub struct DecoderCache {
    pub(super) layers: Vec<Option<KeyValues>>,
}

impl DecoderCache {
    /// Tokens of a sequence.
    pub fn len(&self) -> usize {
        self.layers.iter().flatten().next().map_or(0, KeyValues::tokens)
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Goes on with some of the sequences, by their numbers: the beams that were chosen, or those that have not ended.
    pub fn select(&mut self, sequences: &[u32]) {
        for layer in self.layers.iter_mut().flatten() {
            *layer = layer.select(sequences);
        }
    }
}
