//! The folder of a case.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use tuwen_models::clip::TokenIds;
use tuwen_tensor::Tensor;
use tuwen_tensor::checkpoint::{Checkpoint, TensorSource, open};

use super::report::Tolerance;

/// A folder with the files of a case.
pub struct Case {
    /// The folder.
    pub folder: PathBuf,
    /// What it is called.
    pub name: String,
    /// `meta.json`: tolerances, and how the case was made.
    pub meta: Value,
}

impl Case {
    /// Opens a folder that has a `meta.json`.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("meta.json");
        let text = std::fs::read(&path).with_context(|| format!("{}: no golden case", path.display()))?;
        let meta = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        let canonical = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let name = canonical.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self { folder: folder.to_owned(), name, meta })
    }

    /// The path of a file.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Whether a file is there.
    pub fn has(&self, file: &str) -> bool {
        self.path(file).exists()
    }

    /// A text file.
    pub fn text(&self, file: &str) -> Result<String> {
        let path = self.path(file);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// A JSON file.
    pub fn json(&self, file: &str) -> Result<Value> {
        serde_json::from_str(&self.text(file)?).with_context(|| self.path(file).display().to_string())
    }

    /// A file of tensors.
    pub fn tensors(&self, file: &str) -> Result<Checkpoint> {
        Ok(open(&self.path(file))?)
    }

    /// The tolerances `abs` and `rel` of the case.
    pub fn tolerance(&self) -> Result<Tolerance> {
        Ok(Tolerance { abs: self.tolerance_of("abs")?, rel: self.tolerance_of("rel").unwrap_or(0.0) })
    }

    /// A tolerance by its name.
    pub fn tolerance_of(&self, name: &str) -> Result<f64> {
        let tolerance = self.meta.get("tolerance").and_then(|tolerance| tolerance.get(name)?.as_f64());
        tolerance.ok_or_else(|| anyhow!("{}: no tolerance.{name}", self.path("meta.json").display()))
    }
}

/// An input as a tensor.
pub fn tensor(source: &dyn TensorSource, name: &str) -> Result<Tensor> {
    let raw = source.read(name)?;
    Ok(Tensor::new(&raw.to_f32(), &raw.shape))
}

/// Rows of token ids below `vocab_size`, with a mask of the same shape.
pub fn token_ids(
    source: &dyn TensorSource,
    name: &str,
    mask: Option<&str>,
    vocab_size: usize,
) -> Result<TokenIds> {
    let raw = source.read(name)?;
    let &[.., length] = raw.shape.as_slice() else {
        bail!("{name}: expected rows of ids, got {:?}", raw.shape)
    };
    let ids = raw.to_i64().with_context(|| format!("{name}: expected integers, got {}", raw.dtype))?;
    let id = |id: i64| u32::try_from(id).ok().filter(|&id| (id as usize) < vocab_size);
    let ids: Option<Vec<u32>> = ids.into_iter().map(id).collect();
    let ids = ids.with_context(|| format!("{name}: an id is outside the vocabulary of {vocab_size}"))?;
    let attention_mask = match mask {
        None => None,
        Some(mask) => {
            let values = source.read(mask)?.to_f32();
            if values.len() != ids.len() {
                bail!("{mask}: {} values for {} ids", values.len(), ids.len());
            }
            Some(values.into_iter().map(|value| value != 0.0).collect())
        }
    };
    Ok(TokenIds { ids, length, attention_mask })
}
