//! BLIP and ALBEF, whose texts are grounded in images: everything that makes a model, opened, and its network.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tuwen_data::tokenizer::{BertFlavour, BertTokenizer, TokenizerError};
use tuwen_models::albef::{self, Albef, AlbefConfig};
use tuwen_models::bert::BertConfig;
use tuwen_models::blip::weights::Layout;
use tuwen_models::blip::{Blip, BlipConfig, BlipDialect, BlipImageProcessor, BlipTask, resized_positions};
use tuwen_models::generate::{GenerationDefaults, GenerationLimits};
use tuwen_models::{ConfigError, ModelCost, VitConfig};
use tuwen_nn::{LoadReport, Scope};
use tuwen_tensor::checkpoint::{Checkpoint, TensorSource};

use super::GroundedNetwork;
use crate::files::{Family, Files, check_vit_size, open_checkpoint};
use crate::place::Place;
use crate::{Ability, Error, Options};

/// Configuration of transformers; beside Salesforce's weights, arguments of their program's constructor.
const CONFIG: &str = "config.json";
/// Preparation of images of transformers.
const PROCESSOR: &str = "preprocessor_config.json";
/// How texts are written, of transformers.
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";
/// Configuration of the texts in salesforce/BLIP.
const MED_CONFIG: &str = "med_config.json";
/// Configuration of the texts in salesforce/ALBEF.
const BERT_CONFIG: &str = "config_bert.json";

/// Sizes of a network, and which it is.
#[derive(Clone, Debug, PartialEq)]
pub enum GroundedConfig {
    /// BLIP.
    Blip(BlipConfig),
    /// ALBEF.
    Albef(AlbefConfig),
}

/// BLIP and ALBEF: texts grounded in images.
pub enum GroundedFamily {}

/// The files of a BLIP or ALBEF model.
pub type GroundedFiles = Files<GroundedFamily>;

impl Family for GroundedFamily {
    type Config = GroundedConfig;
    type Processor = BlipImageProcessor;
    /// None where no files say it.
    type Tokenizer = Option<BertTokenizer>;
    type Network = GroundedNetwork;

    fn build(config: &GroundedConfig, scope: Scope) -> Result<GroundedNetwork, LoadReport> {
        Ok(match config {
            GroundedConfig::Blip(config) => GroundedNetwork::Blip(Box::new(Blip::new(config, scope)?)),
            GroundedConfig::Albef(config) => GroundedNetwork::Albef(Box::new(Albef::new(config, scope)?)),
        })
    }
}

impl GroundedConfig {
    /// The image encoder.
    pub fn vision(&self) -> &VitConfig {
        match self {
            Self::Blip(config) => &config.vision,
            Self::Albef(config) => &config.vision,
        }
    }

    fn vision_mut(&mut self) -> &mut VitConfig {
        match self {
            Self::Blip(config) => &mut config.vision,
            Self::Albef(config) => &mut config.vision,
        }
    }

    /// Width of the vectors of images: of the joint space, or of states where there is none.
    pub(crate) fn image_dim(&self) -> usize {
        self.joint_dim().unwrap_or(self.vision().hidden_size)
    }

    /// Width of the vectors of texts.
    pub(crate) fn text_dim(&self) -> usize {
        self.joint_dim().unwrap_or(self.text().hidden_size)
    }

    fn joint_dim(&self) -> Option<usize> {
        match self {
            Self::Blip(config) => {
                self.abilities().contains(&Ability::Compare).then_some(config.image_text_hidden_size)
            }
            Self::Albef(config) => config.embed_dim,
        }
    }

    /// Parameters, operations and memory of the network.
    ///
    /// # Errors
    /// None for a configuration that was checked.
    pub fn cost(&self) -> Result<ModelCost, LoadReport> {
        match self {
            Self::Blip(config) => config.cost(),
            Self::Albef(config) => config.cost(),
        }
    }

    /// The text encoder, or the decoder of a captioner.
    pub fn text(&self) -> &BertConfig {
        match self {
            Self::Blip(config) => &config.text,
            Self::Albef(config) => &config.text,
        }
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.text().vocab_size
    }

    pub(crate) fn is_hugging_face(&self) -> bool {
        matches!(self, Self::Blip(config) if config.dialect == BlipDialect::HuggingFace)
    }
}

impl GroundedFiles {
    /// Whether a checkpoint, under the names that stand in it, is one of these models.
    pub fn is_one(checkpoint: &dyn TensorSource) -> bool {
        Layout::of(checkpoint).is_some() || albef::weights::is_albef(checkpoint)
    }

    /// Finds and opens a model.
    ///
    /// # Errors
    /// There is no such model, a file cannot be read or understood, or files contradict each other. Whether every
    /// weight is there shows when the network is built.
    pub fn open(model: &str, options: &Options) -> Result<Self, Error> {
        if let Some(adapter) = &options.adapter {
            let reason = "adapters are for CLIP models, and this is none".to_owned();
            return Err(Error::Adapter { path: adapter.into(), reason });
        }
        let (checkpoint, place) = open_checkpoint(model, options)?;
        let weights_path = checkpoint.path().to_owned();
        let (mut weights, mut config) = read(checkpoint, &place)?;
        if let Some(size) = options.image_size.filter(|&size| size != config.vision().image_size) {
            check_vit_size(config.vision(), size)?;
            weights = Box::new(resized_positions(weights, config.vision_mut(), size));
        }
        let mut generation = generation(&place, &config)?;
        let mut notes = std::mem::take(&mut generation.notes);
        if !config.is_hugging_face() {
            let file = weights_path.display();
            notes.push(format!(
                "{file}: taken as Salesforce's, whose image encoders have norms with eps 1e-6"
            ));
        }
        Ok(Self {
            name: model.to_owned(),
            processor: processor(&place, &config)?,
            tokenizer: tokenizer(&place, &config)?,
            weights: Arc::from(weights),
            weights_path,
            config,
            notes,
            generation,
            own_classifier: None,
            precision: options.precision,
            misfit: None,
        })
    }
}

/// Weights under our names, and the configuration that goes with them.
pub(crate) fn read(
    checkpoint: Checkpoint,
    place: &Place,
) -> Result<(Box<dyn TensorSource>, GroundedConfig), Error> {
    let path = checkpoint.path().to_owned();
    let state_dict = |source| Error::Config { path: path.clone(), source };
    if albef::weights::is_albef(&checkpoint) {
        let weights = albef::weights::from_salesforce(checkpoint)?;
        let config = AlbefConfig::from_state_dict(&weights).map_err(state_dict)?;
        let config = changed(place, BERT_CONFIG, config, |config, text| config.with_bert_config(text))?;
        let config = changed(place, CONFIG, config, |config, text| config.with_arguments(text))?;
        return Ok((weights, GroundedConfig::Albef(config)));
    }
    let Some(layout) = Layout::of(&checkpoint) else { return Err(not_grounded(&checkpoint)) };
    let weights = layout.import(checkpoint)?;
    let config = match layout {
        Layout::HuggingFace => {
            let task = BlipTask::of(&weights).ok_or_else(|| {
                state_dict(ConfigError::Missing("vision_model with text_encoder or text_decoder".into()))
            })?;
            let text = place.read_text(CONFIG)?;
            let directory = place.directory().to_owned();
            let text = text.ok_or(Error::NoConfig { directory, looked_for: CONFIG })?;
            let config = BlipConfig::from_hf_json(&text, task).map_err(Error::config(place.path(CONFIG)))?;
            // What this program trained keeps its temperature.
            BlipConfig { temperature: weights.info("temp").is_some(), ..config }
        }
        Layout::Salesforce => {
            let config = BlipConfig::from_state_dict(&weights).map_err(state_dict)?;
            let config = changed(place, MED_CONFIG, config, |config, text| config.with_med_config(text))?;
            changed(place, CONFIG, config, |config, text| config.with_arguments(text))?
        }
    };
    Ok((weights, GroundedConfig::Blip(config)))
}

/// A configuration with what a file says, if it is there.
fn changed<C>(
    place: &Place,
    file: &str,
    config: C,
    change: impl FnOnce(C, &str) -> Result<C, ConfigError>,
) -> Result<C, Error> {
    match place.read_text(file)? {
        Some(text) => change(config, &text).map_err(Error::config(place.path(file))),
        None => Ok(config),
    }
}

/// As the files say; else as the original program does it. Images are made as large as the network takes them.
fn processor(place: &Place, config: &GroundedConfig) -> Result<BlipImageProcessor, Error> {
    let size = config.vision().image_size;
    if !config.is_hugging_face() {
        return Ok(BlipImageProcessor::salesforce(size));
    }
    let Some(text) = place.read_text(PROCESSOR)? else { return Ok(BlipImageProcessor::hugging_face(size)) };
    let read = BlipImageProcessor::from_hf_json(&text);
    let read = read.map_err(|source| Error::Processor { path: place.path(PROCESSOR), source })?;
    Ok(read.resized(size))
}

/// What the files of transformers say of how texts are written; notes name the file.
fn generation(place: &Place, config: &GroundedConfig) -> Result<GenerationDefaults, Error> {
    let GroundedConfig::Blip(blip) = config else { return Ok(GenerationDefaults::default()) };
    let writer = blip.answer_decoder.as_ref().unwrap_or(&blip.text);
    let limits = GenerationLimits {
        positions: writer.max_position_embeddings,
        vocab_size: writer.vocab_size,
        eos: blip.tokens.sep,
    };
    let read = |file, read: fn(&str, &GenerationLimits) -> Result<GenerationDefaults, ConfigError>| {
        let Some(text) = place.read_text(file)? else { return Ok(GenerationDefaults::default()) };
        let path = place.path(file);
        let mut said = read(&text, &limits).map_err(Error::config(path.clone()))?;
        said.notes.iter_mut().for_each(|note| *note = format!("{}: {note}", path.display()));
        Ok::<_, Error>(said)
    };
    let said = read(GENERATION_CONFIG, GenerationDefaults::from_generation_json)?;
    Ok(said.or(read(CONFIG, GenerationDefaults::from_hf_json)?))
}

/// The tokenizer beside the weights, if there is one.
fn tokenizer(place: &Place, config: &GroundedConfig) -> Result<Option<BertTokenizer>, Error> {
    let directory = place.directory();
    let read = match place {
        Place::Directory(directory) => BertTokenizer::from_directory(directory),
        Place::BuiltIn(_) => BertTokenizer::from_files(directory, |path| {
            String::from_utf8(place.bytes(path)?).map_err(io::Error::other)
        }),
    };
    let tokenizer = match read {
        Ok(tokenizer) => tokenizer,
        Err(TokenizerError::NoVocabulary(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let tokenizer = match config {
        GroundedConfig::Blip(_) => tokenizer.for_blip(),
        GroundedConfig::Albef(_) => tokenizer,
    };
    let (has, takes) = (tokenizer.vocab_size(), config.vocab_size());
    if has > takes {
        let problem = format!("has {has} tokens, the model only {takes}");
        return Err(Error::WrongTokenizer { directory: directory.to_owned(), problem });
    }
    let flavour = if config.is_hugging_face() { BertFlavour::HuggingFace } else { BertFlavour::Original };
    Ok(Some(tokenizer.with_flavour(flavour)))
}

fn not_grounded(checkpoint: &Checkpoint) -> Error {
    let path: &Path = checkpoint.path();
    Error::NotGrounded { path: path.to_owned(), names: crate::files::first_names(checkpoint) }
}
