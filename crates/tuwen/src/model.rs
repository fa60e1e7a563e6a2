//! A loaded model.

use tuwen_data::image::Picture;
use tuwen_data::tokenizer::ClipTokenizer;
use tuwen_models::clip::{Clip, ClipConfig, ClipImageProcessor, ImageFeatures};

use crate::files::{ModelFiles, Tokenizer};
use crate::{Class, Embedder, Embeddings, Error, LinearClassifier, Matcher, Precision, Texts, templates};

/// A model in memory, ready to use.
///
/// The abilities of a model are types of their own: [`Model::embedder`], [`Model::matcher`] and [`Model::classifier`]
/// give them. What is asked for once has a short form here.
pub struct Model {
    pub(crate) clip: Clip,
    pub(crate) processor: ClipImageProcessor,
    pub(crate) tokenizer: Tokenizer,
    config: ClipConfig,
    name: String,
    notes: Vec<String>,
    own_classifier: Option<LinearClassifier>,
    precision: Precision,
}

impl Model {
    /// Reads the weights.
    ///
    /// # Errors
    /// The report of everything that does not fit between weights and configuration.
    pub fn new(files: ModelFiles) -> Result<Self, Error> {
        let clip = files.load()?;
        let ModelFiles { name, config, processor, notes, own_classifier, precision, tokenizer, .. } = files;
        Ok(Self { clip, processor, tokenizer, config, name, notes, own_classifier, precision })
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

    /// Sizes of the network.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// How images are prepared.
    pub fn processor(&self) -> &ClipImageProcessor {
        &self.processor
    }

    /// The network itself.
    pub fn network(&self) -> &Clip {
        &self.clip
    }

    /// The tokenizer, unless the model came without one.
    pub fn tokenizer(&self) -> Option<&ClipTokenizer> {
        self.tokenizer.get()
    }

    /// The factor between cosines and logits.
    pub fn logit_scale(&self) -> f32 {
        self.clip.logit_scale().item()
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
    /// No texts, or a model that cannot read any.
    pub fn matcher(&self, texts: &[impl AsRef<str>]) -> Result<Matcher, Error> {
        Matcher::of_texts(self, texts)
    }

    /// Compares images with classes, each described by its label in every template.
    ///
    /// # Errors
    /// No labels or templates, a template without `{}`, or a model that cannot read texts.
    pub fn classifier(
        &self,
        labels: &[impl AsRef<str>],
        templates: &[impl AsRef<str>],
    ) -> Result<Matcher, Error> {
        Matcher::of_classes(self, labels, templates)
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
