//! From a recipe's `[lora]` to the scope of a network, and from a trained network to an adapter.

use std::path::Path;

use tuwen::{Adapter, ModelFiles, Options, write_adapter};
use tuwen_nn::{LoraConfig, Parameters, Scope};
use tuwen_tensor::checkpoint::replace_directory;

use crate::{Recipe, TrainError};

/// Opens the model that a recipe starts from. Without `[lora]` its adapter, if it names one, is merged into it.
pub(crate) fn open_base(recipe: &Recipe, from: &Path) -> Result<ModelFiles, TrainError> {
    let merged = recipe.model.adapter.as_ref().filter(|_| recipe.lora.is_none());
    let options = Options { adapter: merged.map(|path| recipe.model_name(path)), ..Options::default() };
    ModelFiles::open(&recipe.model_name(from), &options).map_err(|error| TrainError::Model(error.to_string()))
}

/// The scope of a network that starts from a model: all of it learns, or its adapters do.
pub(crate) fn scope(recipe: &Recipe, files: &ModelFiles) -> Result<Scope, TrainError> {
    let Some(lora) = &recipe.lora else { return Ok(Scope::load_trainable(files.weights.clone())) };
    let config = lora.config();
    let Some(path) = &recipe.model.adapter else {
        return Ok(Scope::load_trainable(files.weights.clone()).with_lora(config, recipe.seed));
    };
    let adapter = Adapter::open(&recipe.model_name(path), &Options::default()).map_err(fault)?;
    continues(&config, &adapter)?;
    let weights = adapter.beside(files.weights.clone()).map_err(fault)?;
    Ok(Scope::load_trainable(weights).with_loaded_lora(config, adapter.factors()))
}

/// An adapter that is trained further has to go on with the effect that it had, and be written with all that it holds.
fn continues(recipe: &LoraConfig, adapter: &Adapter) -> Result<(), TrainError> {
    let settings = |config: &LoraConfig| (config.r, config.lora_alpha, config.use_rslora);
    if settings(recipe) == settings(adapter.config()) {
        return match adapter.saved().iter().find(|name| !recipe.saves(name)) {
            None => Ok(()),
            Some(name) => {
                Err(TrainError::Lora(format!("model.adapter holds {name}: add it to modules_to_save")))
            }
        };
    }
    let LoraConfig { r, lora_alpha, use_rslora, .. } = adapter.config();
    Err(TrainError::Lora(format!(
        "model.adapter was made with r = {r}, lora_alpha = {lora_alpha}, use_rslora = {use_rslora}; [lora] has to say so too"
    )))
}

/// Writes the adapter of a network in peft's layout, in place of what is there.
pub(crate) fn export(directory: &Path, parameters: &Parameters, recipe: &Recipe) -> Result<(), TrainError> {
    let base = recipe.model.init_from.as_ref().map(|from| recipe.resolve(from)).unwrap_or_default();
    // The adapter may be read from anywhere.
    let base = std::fs::canonicalize(&base).unwrap_or(base);
    replace_directory(directory, |directory| {
        write_adapter(directory, &base.to_string_lossy(), parameters).map_err(fault)
    })
}

fn fault(error: tuwen::Error) -> TrainError {
    TrainError::Adapter(Box::new(error))
}
