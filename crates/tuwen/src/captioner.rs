//! Images to captions.

use tuwen_models::bert::EncoderStates;
use tuwen_models::blip::BlipDialect;
use tuwen_models::generate::{BeamRules, GenerationConfig, GenerationDefaults, Listener, Silent};
use tuwen_tensor::{Tensor, no_grad};

use crate::writing::{Hand, end_of};
use crate::{
    Ability, Error, Eye, GroundedConfig, GroundedModel, GroundedNetwork, Model, Pixels, SeenImages,
    WritingOptions, Written,
};

/// What salesforce/BLIP draws nucleus samples with, besides the nucleus.
const NUCLEUS_REPETITION_PENALTY: f32 = 1.1;

/// The ability to write captions.
#[derive(Clone, Copy)]
pub struct Captioner<'m> {
    eye: Eye<'m>,
    hand: Hand<'m>,
    dialect: BlipDialect,
}

impl<'m> Captioner<'m> {
    /// Of a model that was loaded.
    ///
    /// # Errors
    /// A model that writes no captions, or that has no tokenizer.
    pub fn new(model: &'m GroundedModel) -> Result<Self, Error> {
        model.require(Ability::Caption)?;
        let (GroundedConfig::Blip(config), GroundedNetwork::Blip(blip)) = (model.config(), model.network())
        else {
            unreachable!("ALBEF writes no captions")
        };
        let captioner = blip.captioner().expect("it is able to");
        let tokenizer = model.known_tokenizer()?;
        let hand = Hand {
            decoder: captioner.text_decoder,
            tokenizer,
            start: config.tokens.dec,
            end: end_of(config, tokenizer),
            drops_prompt: config.dialect == BlipDialect::Salesforce,
        };
        Ok(Self { eye: Eye(model), hand, dialect: config.dialect })
    }

    /// Settings of the program that the model is of, three beams of 5 to 20 tokens after "a picture of " in Salesforce's, the
    /// most probable tokens in transformers; over them what the model's files say.
    pub fn options(&self) -> WritingOptions {
        let generation = self.defaults().over(self.program());
        WritingOptions { generation, prompt: self.dialect.prompt().to_owned(), stop: Vec::new() }
    }

    /// What the model's files say of how its captions are written.
    pub fn defaults(&self) -> &'m GenerationDefaults {
        &self.eye.0.files().generation
    }

    fn program(&self) -> GenerationConfig {
        match self.dialect {
            BlipDialect::HuggingFace => self.hand.generation(BeamRules::Transformers5),
            BlipDialect::Salesforce => GenerationConfig {
                num_beams: 3,
                max_length: Some(20),
                min_length: 5,
                ..self.hand.generation(BeamRules::Transformers4)
            },
        }
    }

    /// The same, with tokens drawn from the most probable ones that are `top_p` together, as Salesforce's program does it.
    pub fn nucleus(&self, top_p: f32, seed: u64) -> WritingOptions {
        let program = GenerationConfig { repetition_penalty: NUCLEUS_REPETITION_PENALTY, ..self.program() };
        let said = self.defaults().over(program);
        let generation = GenerationConfig { num_beams: 1, do_sample: true, top_p, seed, ..said };
        WritingOptions { generation, ..self.options() }
    }

    /// Whether captions can be written so.
    ///
    /// # Errors
    /// Options that contradict themselves, or ask for more tokens than the model has positions.
    pub fn check(&self, options: &WritingOptions) -> Result<(), Error> {
        self.hand.check(options)
    }

    /// What prepares images and looks at them.
    pub fn eye(&self) -> Eye<'m> {
        self.eye
    }

    /// Captions of images: for each as many as `options` ask for, the best first.
    ///
    /// # Errors
    /// Options that contradict themselves.
    pub fn caption(&self, images: &[Pixels], options: &WritingOptions) -> Result<Vec<Vec<Written>>, Error> {
        let batches =
            images.chunks(self.eye.batch_size()).map(|batch| self.write(&self.look(batch), options));
        Ok(batches.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Looks at images once, to write about them several times.
    pub fn look(&self, images: &[Pixels]) -> SeenImages {
        let SeenImages { states, streams } = self.eye.look(images);
        SeenImages { states: no_grad(|| self.hand.decoder.project(&states.apart())), streams }
    }

    /// Takes images that the same image encoder has seen already: states of all tokens, `[batch, patches + 1, width]`, and
    /// a number for each image, which beside the seed is all that what is drawn for it follows from.
    pub fn seen(&self, states: Tensor, streams: Vec<u64>) -> SeenImages {
        let states = EncoderStates::new(states).apart();
        SeenImages { states: no_grad(|| self.hand.decoder.project(&states)), streams }
    }

    /// Captions of images that were looked at.
    ///
    /// # Errors
    /// Options that contradict themselves.
    pub fn write(&self, images: &SeenImages, options: &WritingOptions) -> Result<Vec<Vec<Written>>, Error> {
        self.write_aloud(images, options, &mut Silent)
    }

    /// The same, where `listener` hears of tokens as they come.
    ///
    /// # Errors
    /// Options that contradict themselves.
    pub fn write_aloud(
        &self,
        images: &SeenImages,
        options: &WritingOptions,
        listener: &mut dyn Listener,
    ) -> Result<Vec<Vec<Written>>, Error> {
        self.hand.write(&images.states, &images.streams, options, listener)
    }

    /// The text of some tokens, for those who listen.
    pub fn text(&self, ids: &[u32]) -> String {
        self.hand.tokenizer.decode(ids)
    }
}

impl Model {
    /// Writes captions.
    ///
    /// # Errors
    /// A model that writes none, or that has no tokenizer.
    pub fn captioner(&self) -> Result<Captioner<'_>, Error> {
        self.require(Ability::Caption)?;
        Captioner::new(self.grounded().expect("no other model writes captions"))
    }
}
