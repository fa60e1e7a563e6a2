//! Checkpoints of a run: weights, moments and position, whole or not there at all.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tuwen_nn::{Entry, Kind, Parameters};
use tuwen_tensor::Tensor;
use tuwen_tensor::checkpoint::{
    RawTensor, TensorSource, open, replace_directory, write_atomically, write_safetensors,
};

use crate::optimizer::assign;
use crate::recipe::differences;
use crate::{Average, Optimizer, TrainError, frozen};

/// How many checkpoints stay.
const KEPT: usize = 2;
const WEIGHTS: &str = "weights.safetensors";
const MOMENTS: &str = "optimizer.safetensors";
const AVERAGE: &str = "average.safetensors";
const STATE: &str = "state.json";
const PREFIX: &str = "step-";

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps taken.
    pub step: u64,
    /// Passes over the data that are finished.
    pub epoch: u64,
    /// Batches taken of the pass that is not.
    pub batch: u64,
    /// Batches in a pass.
    pub batches_per_epoch: u64,
    /// The best main metric so far.
    pub best: Option<f64>,
    /// Bytes of the log written before this checkpoint.
    pub log_length: u64,
    /// A digest of what does not learn, which is not in the checkpoint.
    #[serde(default)]
    pub frozen: Option<u64>,
    /// What the run was made with, but for what may change.
    pub recipe: Value,
}

impl State {
    /// The beginning of a run.
    pub fn new(batches_per_epoch: u64, recipe: Value, parameters: &Parameters) -> Self {
        let frozen = Some(frozen::digest(parameters));
        Self { step: 0, epoch: 0, batch: 0, batches_per_epoch, best: None, log_length: 0, frozen, recipe }
    }

    /// Whether a run that would begin as `fresh` may go on from this state of `checkpoint`.
    pub fn fits(&self, fresh: &Self, checkpoint: &Path) -> Result<(), TrainError> {
        let changes = differences(&self.recipe, &fresh.recipe);
        if !changes.is_empty() {
            return Err(TrainError::RecipeChanged { checkpoint: checkpoint.to_owned(), changes });
        }
        let (then, now) = (self.batches_per_epoch, fresh.batches_per_epoch);
        if then != now {
            let reason =
                format!("the data have changed: they gave {then} batches an epoch, now they give {now}");
            return Err(TrainError::State { path: checkpoint.to_owned(), reason });
        }
        if self.frozen.is_some() && self.frozen != fresh.frozen {
            let reason =
                "what does not learn is no longer what it was: model.init_from holds other weights now";
            return Err(TrainError::State { path: checkpoint.to_owned(), reason: reason.to_owned() });
        }
        Ok(())
    }
}

/// The directory of a run's checkpoints.
pub struct Checkpoints {
    directory: PathBuf,
}

impl Checkpoints {
    /// Checkpoints below a run's output directory, which need not exist yet.
    pub fn below(output: &Path) -> Self {
        Self { directory: output.join("checkpoints") }
    }

    /// The newest checkpoint.
    pub fn latest(&self) -> Result<Option<PathBuf>, TrainError> {
        Ok(self.list()?.pop())
    }

    /// All checkpoints, oldest first.
    fn list(&self) -> Result<Vec<PathBuf>, TrainError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(TrainError::io(&self.directory)(error)),
        };
        let step = |path: &Path| path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse::<u64>().ok();
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let mut found: Vec<(u64, PathBuf)> = paths.filter_map(|path| Some((step(&path)?, path))).collect();
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// Writes a checkpoint and removes all but the newest two. It is built under another name and moved into place
    /// once it is on the disk, so that a reader never sees a part of one.
    pub fn save(
        &self,
        state: &State,
        parameters: &Parameters,
        optimizer: &Optimizer,
        average: Option<&Average>,
    ) -> Result<PathBuf, TrainError> {
        let target = self.directory.join(format!("{PREFIX}{:08}", state.step));
        if target.exists() {
            return Ok(target);
        }
        self.remove_rubble()?;
        replace_directory(&target, |building| {
            let changing = parameters.iter().filter(|entry| changes(entry));
            let weights = changing.map(|entry| (entry.name.clone(), entry.param.value()));
            write_tensors(&building.join(WEIGHTS), weights)?;
            write_tensors(&building.join(MOMENTS), optimizer.state())?;
            if let Some(average) = average {
                write_tensors(&building.join(AVERAGE), average.state())?;
            }
            let path = building.join(STATE);
            let text =
                serde_json::to_vec_pretty(state).map_err(|error| TrainError::io(&path)(error.into()))?;
            Ok::<_, TrainError>(write_atomically(&path, |out| out.write_all(&text))?)
        })?;
        let old = self.list()?;
        for path in old.iter().take(old.len().saturating_sub(KEPT)) {
            // Away from its name first: a run that is killed meanwhile leaves no part of a checkpoint under it.
            let hidden = self.directory.join(".removed");
            fs::rename(path, &hidden)
                .and_then(|()| fs::remove_dir_all(&hidden))
                .map_err(TrainError::io(path))?;
        }
        Ok(target)
    }

    /// Removes what runs that were killed while they wrote or removed a checkpoint left.
    fn remove_rubble(&self) -> Result<(), TrainError> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let hidden = entries
            .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".") && is_folder(entry));
        hidden
            .map(|entry| entry.path())
            .try_for_each(|path| fs::remove_dir_all(&path).map_err(TrainError::io(&path)))
    }
}

/// Reads where a checkpoint stands.
pub fn read_state(checkpoint: &Path) -> Result<State, TrainError> {
    let path = checkpoint.join(STATE);
    let text = fs::read(&path).map_err(TrainError::io(&path))?;
    serde_json::from_slice(&text).map_err(|error| TrainError::State { path, reason: error.to_string() })
}

/// Whether a run changes an entry, so that its checkpoints hold it: what is frozen comes from where it came from first.
fn changes(entry: &Entry) -> bool {
    entry.param.is_trainable() || entry.kind == Kind::Buffer
}

/// Gives weights, moments and the average the values of a checkpoint, bit for bit.
pub fn restore(
    checkpoint: &Path,
    step: u64,
    parameters: &Parameters,
    optimizer: &mut Optimizer,
    average: Option<&Average>,
) -> Result<(), TrainError> {
    let weights = open(&checkpoint.join(WEIGHTS))?;
    let moments = open(&checkpoint.join(MOMENTS))?;
    let fault = |path: &Path| {
        let path = path.to_owned();
        move |reason| TrainError::State { path, reason }
    };
    for entry in parameters.iter().filter(|entry| changes(entry)) {
        assign(&entry.param, &weights, &entry.name).map_err(fault(weights.path()))?;
    }
    if let Some(name) = weights.names().iter().find(|name| parameters.get(name).is_none()) {
        return Err(fault(weights.path())(format!("{name} is not in the network")));
    }
    if let Some(average) = average {
        let saved = open(&checkpoint.join(AVERAGE))?;
        average.restore(&saved).map_err(fault(saved.path()))?;
    }
    optimizer.restore(&moments, step).map_err(fault(moments.path()))
}

fn write_tensors(path: &Path, tensors: impl Iterator<Item = (String, Tensor)>) -> Result<(), TrainError> {
    let raw = tensors.map(|(name, tensor)| (name, RawTensor::from_f32(tensor.shape(), &tensor.to_vec())));
    Ok(write_safetensors(path, raw, &BTreeMap::new())?)
}
