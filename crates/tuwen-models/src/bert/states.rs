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
    parts: Vec<Part>,
    /// How many texts look at each part, where these are not equally many for each image.
    texts: Option<Arc<[usize]>>,
}

/// States of some images.
#[derive(Clone)]
struct Part {
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
        Self::of(vec![Part { seen: Seen::States(states), mask: None }])
    }

    fn of(parts: Vec<Part>) -> Self {
        Self { parts, texts: None }
    }

    /// The same, of which only those are seen where `mask` `[batch, tokens]` is true.
    #[must_use]
    pub fn with_mask(self, mask: Option<Vec<bool>>) -> Self {
        let mask: Option<Arc<[bool]>> = mask.map(Into::into);
        Self {
            parts: self.parts.into_iter().map(|part| Part { mask: mask.clone(), ..part }).collect(),
            ..self
        }
    }

    /// The same images, each apart from the others: what is selected of them is not copied from then on, and they may
    /// be looked at by different numbers of texts.
    #[must_use]
    pub fn apart(&self) -> Self {
        let each = |part: &Part| match part.batch() {
            1 => vec![part.clone()],
            batch => (0..batch as u32).map(|image| part.select(&[image])).collect(),
        };
        Self::of(self.parts.iter().flat_map(each).collect())
    }

    /// The same images, which stand [apart](Self::apart), looked at by so many texts each.
    pub(super) fn with_texts(self, texts: &[usize]) -> Self {
        Self { texts: Some(texts.into()), ..self }
    }

    pub(super) fn projected(&self, mut project: impl FnMut(&Tensor) -> Vec<Option<KeyValues>>) -> Self {
        let part = |part: &Part| {
            let seen = match &part.seen {
                Seen::States(states) => Seen::Projected(project(states).into()),
                projected => projected.clone(),
            };
            Part { seen, mask: part.mask.clone() }
        };
        Self { parts: self.parts.iter().map(part).collect(), texts: self.texts.clone() }
    }

    /// Those of some of the images, by their numbers: copies what they have unless they stand [apart](Self::apart).
    #[must_use]
    pub fn select(&self, images: &[u32]) -> Self {
        if let [part] = self.parts.as_slice() {
            return Self::of(vec![part.select(images)]);
        }
        let apart = self.apart();
        Self::of(images.iter().map(|&image| apart.parts[image as usize].clone()).collect())
    }

    /// Number of images.
    pub fn batch(&self) -> usize {
        self.parts.iter().map(Part::batch).sum()
    }

    /// Numbers that are looked at: states, or keys and values of all layers.
    pub fn elements(&self) -> usize {
        self.parts.iter().map(Part::elements).sum()
    }

    /// What a layer looks at: the states, or keys and values that were made of them.
    pub(super) fn seen_by(&self, layer: usize) -> Vec<Tensor> {
        self.parts.iter().flat_map(|part| part.seen_by(layer)).collect()
    }

    /// The same for this layer alone, with tensors in place of those that [`EncoderStates::seen_by`] gave.
    pub(super) fn with_seen(&self, layer: usize, seen: &[Tensor]) -> Self {
        let seen = seen.chunks((seen.len() / self.parts.len()).max(1));
        let parts = self.parts.iter().zip(seen).map(|(part, seen)| part.with_seen(layer, seen));
        Self { parts: parts.collect(), texts: self.texts.clone() }
    }

    /// What a layer attends to, part by part, for so many texts.
    pub(super) fn seen(
        &self,
        layer: usize,
        texts: usize,
        project: impl Fn(&Tensor) -> KeyValues,
    ) -> Vec<(Cow<'_, KeyValues>, AttentionMask<'_>, usize)> {
        let of_each = texts / self.batch().max(1);
        let looking = |i: usize| match &self.texts {
            Some(texts) => texts[i],
            None => of_each * self.parts[i].batch(),
        };
        self.parts.iter().enumerate().map(|(i, part)| part.seen(layer, looking(i), &project)).collect()
    }
}

impl Part {
    fn batch(&self) -> usize {
        match &self.seen {
            Seen::States(states) => states.shape()[0],
            Seen::Projected(layers) => layers.iter().flatten().next().map_or(0, KeyValues::batch),
        }
    }

    fn elements(&self) -> usize {
        match &self.seen {
            Seen::States(states) => states.elements(),
            Seen::Projected(layers) => layers.iter().flatten().map(KeyValues::elements).sum(),
        }
    }

    fn select(&self, images: &[u32]) -> Self {
        if self.batch() == 1 && images == [0] {
            return self.clone();
        }
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
            let row = |&image: &u32| mask[image as usize * tokens..][..tokens].iter().copied();
            images.iter().flat_map(row).collect()
        });
        Self { seen, mask }
    }

    /// What a layer looks at: the states, or keys and values that were made of them.
    fn seen_by(&self, layer: usize) -> Vec<Tensor> {
        match &self.seen {
            Seen::States(states) => vec![states.clone()],
            Seen::Projected(layers) => {
                layers[layer].iter().flat_map(|seen| [seen.keys.clone(), seen.values.clone()]).collect()
            }
        }
    }

    fn with_seen(&self, layer: usize, seen: &[Tensor]) -> Self {
        let seen = match seen {
            [keys, values] => {
                let mut layers = vec![None; layer + 1];
                layers[layer] = Some(KeyValues { keys: keys.clone(), values: values.clone() });
                Seen::Projected(layers.into())
            }
            states => Seen::States(states[0].clone()),
        };
        Self { seen, mask: self.mask.clone() }
    }

    fn seen(
        &self,
        layer: usize,
        texts: usize,
        project: impl Fn(&Tensor) -> KeyValues,
    ) -> (Cow<'_, KeyValues>, AttentionMask<'_>, usize) {
        let key_values = match &self.seen {
            Seen::States(states) => Cow::Owned(project(states)),
            Seen::Projected(layers) => {
                Cow::Borrowed(layers[layer].as_ref().expect("states are projected for each layer that looks"))
            }
        };
        (key_values, AttentionMask { keys: self.mask.as_deref(), ..Default::default() }, texts)
    }
}

/// Keys and values of the tokens that a decoder has seen. It begins empty.
///
/// They stay where each step made them, those of texts that do not go on as well: a cache grows and goes on with other
/// texts without a copy.
#[derive(Clone, Default)]
pub struct DecoderCache {
    /// Those of each step, layer by layer.
    pub(super) layers: Vec<Vec<KeyValues>>,
    /// Of each step, the row that belongs to each text.
    pub(super) rows: Vec<Vec<u32>>,
}

impl DecoderCache {
    /// Tokens of a sequence.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |steps| steps.iter().map(KeyValues::tokens).sum())
    }

    /// Numbers that are kept.
    pub fn elements(&self) -> usize {
        self.layers.iter().flatten().map(KeyValues::elements).sum()
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Goes on with some of the sequences, by their numbers: the beams that were chosen, or those that have not ended.
    pub fn select(&mut self, sequences: &[u32]) {
        for rows in &mut self.rows {
            *rows = sequences.iter().map(|&sequence| rows[sequence as usize]).collect();
        }
    }

    /// Makes room for a step of so many sequences, whose rows are their own.
    pub(super) fn begin_step(&mut self, layers: usize, sequences: usize) {
        self.layers.resize_with(layers, Vec::new);
        self.rows.push((0..sequences as u32).collect());
    }
}
