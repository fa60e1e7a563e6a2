//! Images against a fixed set of texts or classes.

use serde::Serialize;
use tuwen_data::tokenizer::Truncated;

use crate::embeddings::softmax;
use crate::{Ability, Embeddings, Error, Model, Texts};

/// The ability to compare images with texts, or with classes that texts describe.
pub struct Matcher {
    targets: Embeddings,
    logit_scale: f32,
    truncated: Vec<Truncated>,
}

/// A label and how well it fits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Class {
    /// The label.
    pub label: String,
    /// Its probability among all labels.
    pub score: f32,
}

impl Matcher {
    pub(crate) fn of_texts(model: &Model, texts: &[impl AsRef<str>]) -> Result<Self, Error> {
        if texts.is_empty() {
            return Err(Error::Nothing("texts"));
        }
        model.require(Ability::Compare)?;
        Ok(Self::new(model, model.embed_texts(texts)?))
    }

    pub(crate) fn of_classes(
        model: &Model,
        labels: &[impl AsRef<str>],
        templates: &[impl AsRef<str>],
    ) -> Result<Self, Error> {
        for (what, count) in [("labels", labels.len()), ("templates", templates.len())] {
            if count == 0 {
                return Err(Error::Nothing(what));
            }
        }
        model.require(Ability::Compare)?;
        Ok(Self::new(model, model.embed_classes(labels, templates)?))
    }

    pub(crate) fn new(model: &Model, texts: Texts) -> Self {
        let Texts { embeddings, truncated } = texts;
        Self { targets: embeddings, logit_scale: model.logit_scale(), truncated }
    }

    /// One unit vector for each text or class.
    pub fn targets(&self) -> &Embeddings {
        &self.targets
    }

    /// Texts (of a classifier: prompts, label by label) that were cut because the model takes no longer ones.
    pub fn truncated(&self) -> &[Truncated] {
        &self.truncated
    }

    /// Cosines of image vectors of unit length: a row for each image.
    pub fn similarities(&self, images: &Embeddings) -> Vec<Vec<f32>> {
        images.dot(&self.targets)
    }

    /// Probabilities over the texts or classes, for image vectors of unit length: a row for each image.
    pub fn probabilities(&self, images: &Embeddings) -> Vec<Vec<f32>> {
        let mut rows = self.similarities(images);
        rows.iter_mut().for_each(|row| self.to_probabilities(row));
        rows
    }

    /// Turns a row of cosines into probabilities: the softmax of the cosines times the model's factor.
    pub fn to_probabilities(&self, cosines: &mut [f32]) {
        cosines.iter_mut().for_each(|cosine| *cosine *= self.logit_scale);
        softmax(cosines);
    }
}

impl Class {
    /// Labels with their scores, best first; equal ones stay in their order.
    pub fn ranked(labels: &[impl AsRef<str>], scores: &[f32]) -> Vec<Self> {
        let class =
            |(label, &score): (&_, &f32)| Self { label: AsRef::<str>::as_ref(label).to_owned(), score };
        let mut classes: Vec<_> = labels.iter().zip(scores).map(class).collect();
        classes.sort_by(|a, b| b.score.total_cmp(&a.score));
        classes
    }
}
