//! Texts by a decoder that looks at something: what captions and answers have in common.

use tuwen_data::image::{ImageError, Picture};
use tuwen_data::tokenizer::BertTokenizer;
use tuwen_models::bert::{BertDecoder, BertSequences, EncoderStates};
use tuwen_models::blip::{BlipConfig, BlipDialect};
use tuwen_models::generate::{
    BeamRules, Generated, GenerationConfig, Listener, Start, StopStrings, generate,
};
use tuwen_tensor::no_grad;

use crate::fingerprint::Fnv;
use crate::{Error, GroundedModel, Pixels};

/// How texts are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WritingOptions {
    /// How tokens are chosen.
    pub generation: GenerationConfig,
    /// What each text begins with.
    pub prompt: String,
    /// Texts end before these strings.
    pub stop: Vec<String>,
}

/// A text that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The text.
    pub text: String,
    /// Its tokens, their scores and its own.
    pub generated: Generated,
}

/// What an image encoder saw in images, to be written about as often as is wanted.
#[derive(Clone)]
pub struct SeenImages {
    pub(crate) states: EncoderStates,
    /// A number for each image that follows from its pixels: what is drawn for an image depends on nothing beside it.
    pub(crate) streams: Vec<u64>,
}

impl SeenImages {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

/// What prepares images for a model and looks at them.
#[derive(Clone, Copy)]
pub struct Eye<'m>(pub(crate) &'m GroundedModel);

impl Eye<'_> {
    /// Images that are best looked at together.
    pub fn batch_size(&self) -> usize {
        GroundedModel::IMAGE_BATCH
    }

    /// Decodes an image file for [`Eye::prepare`], which hides that it is not exact: see [`Picture::decode_for`].
    ///
    /// # Errors
    /// See [`Picture::decode`].
    pub fn decode(&self, bytes: &[u8]) -> Result<Picture, ImageError> {
        Picture::decode_for(bytes, self.0.transform())
    }

    /// Prepares an image; several can be at once on several threads.
    pub fn prepare(&self, image: &Picture) -> Pixels {
        self.0.prepare(image)
    }

    /// States of all tokens of images.
    pub(crate) fn look(&self, images: &[Pixels]) -> SeenImages {
        let states = EncoderStates::new(self.0.image_states(images));
        SeenImages { states, streams: images.iter().map(stream_of).collect() }
    }
}

fn stream_of(image: &Pixels) -> u64 {
    let mut hash = Fnv::default();
    let (words, rest) = image.0.data.as_chunks::<8>();
    words.iter().for_each(|word| hash.add(u64::from_le_bytes(*word)));
    rest.iter().for_each(|&byte| hash.add(u64::from(byte)));
    hash.value()
}

/// The same number for a text about an image.
pub fn stream_with(stream: u64, text: &str) -> u64 {
    let mut hash = Fnv::default();
    hash.add(stream);
    text.bytes().for_each(|byte| hash.add(u64::from(byte)));
    hash.value()
}

/// The token that a BLIP's texts end with: transformers' configuration names it.
pub fn end_of(config: &BlipConfig, tokenizer: &BertTokenizer) -> u32 {
    match config.dialect {
        BlipDialect::HuggingFace => config.tokens.sep,
        BlipDialect::Salesforce => tokenizer.end_id(),
    }
}

/// What writes.
#[derive(Clone, Copy)]
pub struct Hand<'m> {
    pub decoder: &'m BertDecoder,
    pub tokenizer: &'m BertTokenizer,
    /// The token that every text begins with.
    pub start: u32,
    /// The token that ends texts.
    pub end: u32,
    /// Whether what is written is given without the prompt, as Salesforce's program does.
    pub drops_prompt: bool,
}

impl Hand<'_> {
    /// Settings that end texts where the network's texts end.
    pub fn generation(&self, beam_rules: BeamRules) -> GenerationConfig {
        GenerationConfig { eos_token_ids: vec![self.end], beam_rules, ..GenerationConfig::default() }
    }

    /// Whether texts can be written so.
    pub fn check(&self, options: &WritingOptions) -> Result<(), Error> {
        let longest = self.decoder.bert().max_length();
        Ok(options.generation.check(self.prompt(options).len(), longest)?)
    }

    /// Tokens that every text begins with.
    fn prompt(&self, options: &WritingOptions) -> Vec<u32> {
        [vec![self.start], self.tokenizer.encode(&options.prompt)].concat()
    }

    /// Writes about states.
    pub fn write(
        &self,
        states: &EncoderStates,
        streams: &[u64],
        options: &WritingOptions,
        listener: &mut dyn Listener,
    ) -> Result<Vec<Vec<Written>>, Error> {
        let prompt = self.prompt(options);
        let starts: Vec<Start> =
            streams.iter().map(|&stream| Start { prompt: prompt.clone(), stream }).collect();
        let decode = |ids: &[u32]| self.tokenizer.decode(ids);
        let mut listener = StopStrings::new(&options.stop, &decode, listener);
        let mut sequences = BertSequences::new(self.decoder, states);
        let texts = no_grad(|| generate(&mut sequences, &starts, &options.generation, &mut listener))?;
        let written = |generated| Written { text: self.text(&prompt, &generated, options), generated };
        Ok(texts.into_iter().map(|texts| texts.into_iter().map(written).collect()).collect())
    }

    fn text(&self, prompt: &[u32], generated: &Generated, options: &WritingOptions) -> String {
        let whole = self.tokenizer.decode(&[prompt, generated.ids.as_slice()].concat());
        let begun = if self.drops_prompt { options.prompt.chars().count() } else { 0 };
        let text: String = whole.chars().skip(begun).collect();
        let end = options.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
        text[..end.unwrap_or(text.len())].trim_end().to_owned()
    }
}
