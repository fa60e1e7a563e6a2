//! Low-rank adapters in the layout of Hugging Face's peft, and models that they are merged into.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tuwen_nn::{LoraConfig, merge_lora};
use tuwen_tensor::Tensor;
use tuwen_tensor::checkpoint::{
    Checkpoint, CheckpointError, DType, Mapped, Overlay, RawTensor, Rule, TensorInfo, TensorSource, open,
};

use crate::source::{self, Source};
use crate::{Error, Options};

mod config;
mod write;

pub use write::write;

/// The settings of an adapter.
const CONFIG: &str = "adapter_config.json";
/// Its tensors, best first.
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// peft's names: a model within a model, perhaps with the adapter's own name.
const NAMES: &[Rule] = &[
    Rule::rename("base_model.model.*.lora_A.default.weight", &["*.lora_A.weight"]),
    Rule::rename("base_model.model.*.lora_B.default.weight", &["*.lora_B.weight"]),
    Rule::rename("base_model.model.*.modules_to_save.default.*", &["*.*"]),
    Rule::rename("base_model.model.*", &["*"]),
];

/// An opened adapter: pairs of factors, and tensors that replace whole ones of the base.
#[derive(Clone)]
pub struct Adapter {
    directory: PathBuf,
    /// Settings; the target modules are the paths of the layers that the file has factors for.
    config: LoraConfig,
    tensors: Arc<Mapped<Checkpoint>>,
}

impl Adapter {
    /// Finds and opens an adapter: a directory, or a hub id in a local cache.
    ///
    /// # Errors
    /// There is none, a file cannot be read, or it is an adapter of another kind.
    pub fn open(adapter: &str, options: &Options) -> Result<Self, Error> {
        match source::find(adapter, options)? {
            Source::Directory(directory) => Self::read(&directory),
            Source::File(path) => Self::read(path.parent().unwrap_or(Path::new(""))),
            Source::BuiltIn(_) => Err(Error::NoSuchModel(adapter.to_owned())),
        }
    }

    fn read(directory: &Path) -> Result<Self, Error> {
        let file = config::read(&directory.join(CONFIG))?;
        let path = WEIGHTS.map(|name| directory.join(name)).into_iter().find(|path| path.is_file());
        let path = path.ok_or_else(|| fault(directory, format!("no {} here", WEIGHTS.join(" or "))))?;
        let tensors = Mapped::import(open(&path)?, &[NAMES]);
        let factors = tensors.names().into_iter().filter_map(|name| Some(adapted(&name)?.to_owned()));
        let config = LoraConfig { target_modules: factors.collect(), ..file.config };
        Ok(Self { directory: directory.to_owned(), config, tensors: Arc::new(tensors) })
    }

    /// Settings. The target modules are the full paths of what is adapted.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The factors alone, by the names of the network that they belong to.
    pub fn factors(&self) -> Arc<dyn TensorSource> {
        Arc::new(Factors(self.tensors.clone()))
    }

    /// Names of the tensors that it replaces whole.
    pub fn saved(&self) -> Vec<String> {
        self.tensors.names().into_iter().filter(|name| factor_of(name).is_none()).collect()
    }

    /// The weights of a model with this adapter merged into them.
    ///
    /// # Errors
    /// What the adapter changes is not in the model, or has another shape there.
    pub fn over(self, base: Box<dyn TensorSource>) -> Result<Box<dyn TensorSource>, Error> {
        self.check(base.as_ref())?;
        Ok(Box::new(Adapted { base, adapter: self }))
    }

    /// The weights of a model with the tensors that this adapter replaces whole; its factors are left out.
    ///
    /// # Errors
    /// As [`Adapter::over`].
    pub fn beside(&self, base: Arc<dyn TensorSource>) -> Result<Arc<dyn TensorSource>, Error> {
        self.check(base.as_ref())?;
        let read = |name: String| Ok((name.clone(), self.tensors.read(&name)?.into_owned()));
        let saved = self.saved().into_iter().map(read).collect::<Result<_, CheckpointError>>()?;
        Ok(Arc::new(Overlay::new(base, saved)))
    }

    /// Every tensor has to have its place in the base.
    fn check(&self, base: &dyn TensorSource) -> Result<(), Error> {
        let fault = |reason: String| Err(fault(&self.directory, reason));
        let shape = |source: &dyn TensorSource, name: &str| source.info(name).map(|info| info.shape);
        for name in self.tensors.names() {
            let module = factor_of(&name);
            let weight = module.map_or_else(|| name.clone(), |module| format!("{module}.weight"));
            let Some(expected) = shape(base, &weight) else {
                return fault(format!("adapts {weight}, which the model does not have"));
            };
            let got = match module {
                None => shape(self.tensors.as_ref(), &name),
                Some(module) => {
                    let [a, b] = factor_names(module).map(|name| shape(self.tensors.as_ref(), &name));
                    match (a.as_deref(), b.as_deref()) {
                        (Some(&[r, inner]), Some(&[out, rank])) if r == rank => Some(vec![out, inner]),
                        _ => return fault(format!("{module}: needs lora_A [r, in] and lora_B [out, r]")),
                    }
                }
            };
            if got.as_ref() != Some(&expected) {
                let got = got.unwrap_or_default();
                return fault(format!(
                    "{weight} has shape {expected:?} in the model and {got:?} in the adapter"
                ));
            }
        }
        Ok(())
    }
}

fn fault(directory: &Path, reason: String) -> Error {
    Error::Adapter { path: directory.to_owned(), reason }
}

/// The layer that a tensor adapts, told by the first of the two factors.
fn adapted(name: &str) -> Option<&str> {
    name.strip_suffix(".lora_A.weight")
}

/// The layer whose factor this is.
fn factor_of(name: &str) -> Option<&str> {
    adapted(name).or_else(|| name.strip_suffix(".lora_B.weight"))
}

fn factor_names(module: &str) -> [String; 2] {
    ["A", "B"].map(|factor| format!("{module}.lora_{factor}.weight"))
}

/// The base model and the adapter of what a user calls a model, if it is an adapter.
///
/// # Errors
/// It is one whose base is not at hand.
pub(crate) fn as_model(model: &str, options: &Options) -> Result<Option<String>, Error> {
    let Ok(Source::Directory(directory)) = source::find(model, options) else { return Ok(None) };
    let own_weights = tuwen_tensor::checkpoint::weight_files_in(&directory).is_ok();
    if own_weights || !directory.join(CONFIG).is_file() {
        return Ok(None);
    }
    let unknown = |reason: String| fault(&directory, format!("this is an adapter, and {reason}"));
    if options.adapter.is_some() {
        return Err(unknown("a model takes one at a time".to_owned()));
    }
    let base = config::read(&directory.join(CONFIG))?.base;
    let base = base.ok_or_else(|| unknown("its configuration names no base model".to_owned()))?;
    let beside = directory.join(&base);
    let found = if beside.exists() { beside.to_string_lossy().into_owned() } else { base };
    match source::find(&found, options) {
        Ok(_) => Ok(Some(found)),
        Err(error) => Err(unknown(format!("its base model is not at hand: {error}"))),
    }
}

/// A model with an adapter merged into its weights.
struct Adapted {
    base: Box<dyn TensorSource>,
    adapter: Adapter,
}

impl Adapted {
    /// The two factors of a weight, if it has them.
    fn factors(&self, name: &str) -> Option<[String; 2]> {
        let factors = factor_names(name.strip_suffix(".weight")?);
        self.adapter.tensors.info(&factors[0]).map(|_| factors)
    }
}

impl TensorSource for Adapted {
    fn names(&self) -> Vec<String> {
        self.base.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        match self.factors(name) {
            Some(_) => Some(TensorInfo { dtype: DType::F32, ..self.base.info(name)? }),
            None => self.adapter.tensors.info(name).or_else(|| self.base.info(name)),
        }
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
        let tensors = &self.adapter.tensors;
        if tensors.info(name).is_some() {
            return tensors.read(name);
        }
        let base = self.base.read(name)?;
        let Some([a, b]) = self.factors(name) else { return Ok(base) };
        let tensor = |raw: RawTensor<'_>| Tensor::new(&raw.to_f32(), &raw.shape);
        let (a, b) = (tensor(tensors.read(&a)?), tensor(tensors.read(&b)?));
        let merged = merge_lora(&tensor(base), &a, &b, self.adapter.config.scaling(a.shape()[0]));
        Ok(RawTensor::from_f32(merged.shape(), &merged.to_vec()))
    }

    fn check(&self, name: &str) -> Result<(), CheckpointError> {
        let tensors = &self.adapter.tensors;
        if tensors.info(name).is_some() {
            return tensors.check(name);
        }
        // Shapes were compared when the adapter was put over its base.
        self.base.check(name)?;
        self.factors(name).into_iter().flatten().try_for_each(|factor| tensors.check(&factor))
    }

    fn release(&self, name: &str) {
        self.base.release(name);
    }
}

/// The factors of an adapter.
struct Factors(Arc<Mapped<Checkpoint>>);

impl TensorSource for Factors {
    fn names(&self) -> Vec<String> {
        self.0.names().into_iter().filter(|name| factor_of(name).is_some()).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.0.info(name)
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
        self.0.read(name)
    }
}
