//! A loaded model.

use tuwen_data::image::{Picture, Transform};
use tuwen_models::clip::ImageFeatures;
use tuwen_nn::Parameters;

use crate::embeddings::softmax;
use crate::towers::{ClipModel, Towers};
use crate::{
    Ability, Class, Embedder, Embeddings, Error, GroundedModel, LinearClassifier, Matcher, ModelFiles,
    Opened, PairScorer, Precision, Texts, templates,
};

/// A model in memory, ready to use, of whichever family it is.
///
/// The abilities of a model are types of their own: [`Model::embedder`], [`Model::matcher`] and [`Model::classifier`]
/// give them. What is asked for once has a short form here.
pub struct Model {
    pub(crate) towers: Towers,
    name: String,
    notes: Vec<String>,
    own_classifier: Option<LinearClassifier>,
    precision: Precision,
}

impl Model {
    /// Reads the weights of a CLIP.
    ///
    /// # Errors
    /// The report of everything that does not fit between weights and configuration.
    pub fn new(files: ModelFiles) -> Result<Self, Error> {
        Self::of(Opened::Clip(files))
    }

    /// Reads the weights.
    ///
    /// # Errors
    /// The report of everything that does not fit between weights and configuration.
    pub fn of(files: Opened) -> Result<Self, Error> {
        Ok(match files {
            Opened::Clip(files) => {
                let network = files.load()?;
                let ModelFiles {
                    name, config, processor, notes, own_classifier, precision, tokenizer, ..
                } = files;
                let towers = Towers::Clip(Box::new(ClipModel { network, config, processor, tokenizer }));
                Self { towers, name, notes, own_classifier, precision }
            }
            Opened::Grounded(mut files) => {
                let (name, precision) = (files.name.clone(), files.precision);
                let (notes, own_classifier) = (files.notes.clone(), files.own_classifier.take());
                let towers = Towers::Grounded(Box::new(GroundedModel::new(files)?));
                Self { towers, name, notes, own_classifier, precision }
            }
        })
    }

    /// What the model was asked for by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a user should know about how its files were understood.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the network multiplies in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Says whether the model can do something.
    ///
    /// # Errors
    /// [`Error::Unable`], with what it can do.
    pub fn require(&self, ability: Ability) -> Result<(), Error> {
        ability.require(&self.name, self.towers.abilities())
    }

    /// The model as a CLIP, if it is one.
    pub fn clip(&self) -> Option<&ClipModel> {
        match &self.towers {
            Towers::Clip(model) => Some(model),
            Towers::Grounded(_) => None,
        }
    }

    /// The model as a BLIP or ALBEF, if it is one.
    pub fn grounded(&self) -> Option<&GroundedModel> {
        match &self.towers {
            Towers::Clip(_) => None,
            Towers::Grounded(model) => Some(model),
        }
    }

    /// All parameters, by our names.
    pub fn parameters(&self) -> &Parameters {
        self.towers.parameters()
    }

    /// How images are prepared.
    pub fn transform(&self) -> &Transform {
        self.towers.transform()
    }

    /// Width of the vector that describes an image.
    pub fn image_dim(&self, features: ImageFeatures) -> usize {
        self.towers.image_dim(features)
    }

    /// Longest text in tokens, start and end included.
    pub fn text_limit(&self) -> usize {
        self.towers.text_limit()
    }

    /// The factor between cosines and logits.
    pub fn logit_scale(&self) -> f32 {
        self.towers.logit_scale()
    }

    /// Probabilities of cosines: their softmax, times the model's factor.
    pub fn probabilities(&self, cosines: &[f32]) -> Vec<f32> {
        let logit_scale = self.logit_scale();
        let mut logits: Vec<f32> = cosines.iter().map(|cosine| cosine * logit_scale).collect();
        softmax(&mut logits);
        logits
    }

    /// Turns images and texts into vectors of unit length.
    pub fn embedder(&self) -> Embedder<'_> {
        self.embedder_of(ImageFeatures::Normalized)
    }

    /// Turns images and texts into vectors as the towers give them.
    pub fn raw_embedder(&self) -> Embedder<'_> {
        self.embedder_of(ImageFeatures::Projected)
    }

    /// Describes images by these features.
    pub fn embedder_of(&self, features: ImageFeatures) -> Embedder<'_> {
        Embedder { model: self, features }
    }

    /// The classifier that the model was fine-tuned with, where it was.
    pub fn own_classifier(&self) -> Option<&LinearClassifier> {
        self.own_classifier.as_ref()
    }

    /// Compares images with these texts.
    ///
    /// # Errors
    /// No texts, or a model that cannot compare images with them.
    pub fn matcher(&self, texts: &[impl AsRef<str>]) -> Result<Matcher, Error> {
        Matcher::of_texts(self, texts)
    }

    /// Compares images with classes, each described by its label in every template.
    ///
    /// # Errors
    /// No labels or templates, a template without `{}`, or a model that cannot compare images with texts.
    pub fn classifier(
        &self,
        labels: &[impl AsRef<str>],
        templates: &[impl AsRef<str>],
    ) -> Result<Matcher, Error> {
        Matcher::of_classes(self, labels, templates)
    }

    /// What scores pairs of images and texts by a head that saw both.
    ///
    /// # Errors
    /// A model that has no such head, or no tokenizer.
    pub fn pair_scorer(&self) -> Result<PairScorer<'_>, Error> {
        self.require(Ability::Match)?;
        self.grounded().map_or(Err(Error::Nothing("models with such a head")), GroundedModel::pair_scorer)
    }

    /// Vectors of images, of unit length.
    pub fn embed_images(&self, images: &[Picture]) -> Embeddings {
        self.embedder().images(images)
    }

    /// Vectors of texts, of unit length.
    ///
    /// # Errors
    /// A model that cannot read texts.
    pub fn embed_texts(&self, texts: &[impl AsRef<str>]) -> Result<Texts, Error> {
        self.embedder().texts(texts)
    }

    /// Which of some labels fits an image, best first; the labels are read as they are ("a cat", not "cat").
    ///
    /// # Errors
    /// As [`Model::classifier`].
    pub fn classify(&self, image: &Picture, labels: &[impl AsRef<str>]) -> Result<Vec<Class>, Error> {
        let classifier = self.classifier(labels, &["{}"])?;
        let scores = classifier.probabilities(&self.embedder().images(std::slice::from_ref(image)));
        Ok(scores.first().map(|scores| Class::ranked(labels, scores)).unwrap_or_default())
    }

    /// Cosines of images and texts: a row for each image.
    ///
    /// # Errors
    /// As [`Model::matcher`].
    pub fn match_texts(&self, images: &[Picture], texts: &[impl AsRef<str>]) -> Result<Vec<Vec<f32>>, Error> {
        Ok(self.matcher(texts)?.similarities(&self.embed_images(images)))
    }

    /// Class vectors for templates; here so that both short and long form share it.
    pub(crate) fn embed_classes(
        &self,
        labels: &[impl AsRef<str>],
        templates: &[impl AsRef<str>],
    ) -> Result<Texts, Error> {
        let prompts = templates::fill(labels, templates)?;
        let Texts { embeddings, truncated } = self.embed_texts(&prompts)?;
        Ok(Texts { embeddings: embeddings.grouped(templates.len()), truncated })
    }
}
