//! Going on from the files of a network, perhaps one that was made for another task.

use std::path::Path;
use std::sync::Arc;

use tuwen::{GroundedConfig, GroundedFiles, Options};
use tuwen_data::tokenizer::BertTokenizer;
use tuwen_models::albef::{self, Albef, AlbefConfig, AlbefTask};
use tuwen_models::blip::{self, Blip, BlipConfig, BlipImageProcessor, BlipTask};
use tuwen_models::{Beginning, Misfit};
use tuwen_nn::Scope;

use super::network::{fail, fits, read_vocabulary, said, spread};
use crate::{Recipe, TrainError};

/// A network as files have it, ready to be built for the task of a recipe.
pub(super) struct Started<C> {
    pub config: C,
    pub tokenizer: BertTokenizer,
    pub processor: BlipImageProcessor,
    pub scope: Scope,
    /// What is taken from the files, drawn anew and left, in words.
    pub notes: Vec<String>,
}

/// A BLIP that begins as another one.
pub(super) fn blip(recipe: &Recipe, from: &Path) -> Result<Started<BlipConfig>, TrainError> {
    let mut files = open(recipe, from)?;
    let tokenizer = tokenizer(recipe, &mut files)?.for_blip();
    let GroundedConfig::Blip(config) = files.config else {
        return fail(format!("{} is an ALBEF, [blip] trains BLIP", files.name));
    };
    let (made_for, task) = (config.task, BlipTask::from(recipe.blip.task));
    let mut config = config.for_task(task);
    config.temperature = recipe.blip.compares();
    config.answers = task == BlipTask::Pretrain && recipe.blip.answers();
    fits(&tokenizer, config.text.vocab_size)?;
    let config = config.checked().map_err(said)?;
    let network = Blip::new(&config, Scope::count())?;
    let beginning = blip::start::begin(network.parameters(), files.weights.clone());
    let what = format!("{} (made for {made_for:?})", files.name);
    let (scope, notes) = begun(recipe, &what, format!("blip.task = {task:?}"), beginning)?;
    Ok(Started { config, tokenizer, processor: files.processor, scope, notes })
}

/// An ALBEF that begins as another one.
pub(super) fn albef(
    recipe: &Recipe,
    from: &Path,
    task: AlbefTask,
) -> Result<Started<AlbefConfig>, TrainError> {
    let mut files = open(recipe, from)?;
    let tokenizer = tokenizer(recipe, &mut files)?;
    let GroundedConfig::Albef(config) = files.config else {
        return fail(format!("{} is a BLIP, [albef] trains ALBEF", files.name));
    };
    let made_for = config.task;
    let config = AlbefConfig { temperature: task != AlbefTask::Vqa, ..config.for_task(task) };
    let config = config.checked().map_err(said)?;
    let network = Albef::new(&config, Scope::count())?;
    let beginning = albef::start::begin(network.parameters(), files.weights.clone(), config.fusion_layer());
    let what = format!("{} (made for {made_for:?})", files.name);
    let (scope, notes) = begun(recipe, &what, format!("albef.task = {task:?}"), beginning)?;
    Ok(Started { config, tokenizer, processor: files.processor, scope, notes })
}

/// Where the parameters of a network come from that begins as another one, and what is said of it.
fn begun(
    recipe: &Recipe,
    what: &str,
    task: String,
    beginning: Result<Beginning, Misfit>,
) -> Result<(Scope, Vec<String>), TrainError> {
    let beginning = beginning
        .map_err(|misfit| TrainError::Model(format!("{what} cannot begin a network for {task}: {misfit}")))?;
    let start = format!("begins as {what}");
    let notes = [start].into_iter().chain(beginning.in_words()).collect();
    Ok((Scope::start_from(Arc::new(beginning), recipe.seed).with_spread(spread(recipe)), notes))
}

/// The files, with positions for images of the recipe's size.
fn open(recipe: &Recipe, from: &Path) -> Result<GroundedFiles, TrainError> {
    let options = Options { image_size: recipe.model.image_size, ..Options::default() };
    Ok(GroundedFiles::open(&recipe.model_name(from), &options)?)
}

/// The tokenizer that the recipe names, else that of the files.
fn tokenizer(recipe: &Recipe, files: &mut GroundedFiles) -> Result<BertTokenizer, TrainError> {
    match (&recipe.tokenizer.from, files.tokenizer.take()) {
        (Some(from), _) => read_vocabulary(&recipe.resolve(from)),
        (None, Some(tokenizer)) => Ok(tokenizer),
        (None, None) => fail(format!("{} has no vocab.txt; set tokenizer.from", files.name)),
    }
}
