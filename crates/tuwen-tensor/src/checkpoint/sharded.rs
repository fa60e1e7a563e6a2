//! Checkpoints in shards: an index whose `weight_map` says which file holds which tensor.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;

use super::file::{Checkpoint, Format, Mapped, open_single};
use super::{CheckpointError, Problem};

/// Longest index; that of 2000 tensors has about 200 kB.
const MAX_INDEX: usize = 1 << 24;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Opens every shard that the index at `path` names; all lie in its directory.
pub(super) fn open(path: &Path, index: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let fault = |reason: String| Problem::Index(reason).in_file(path);
    if index.len() > MAX_INDEX {
        return Err(fault(format!("{} bytes long; at most {MAX_INDEX} are read", index.len())));
    }
    let Index { weight_map } =
        serde_json::from_slice(index).map_err(|e| fault(format!("not an object with a weight_map: {e}")))?;
    let mut shards: BTreeMap<&str, Checkpoint> = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    for (name, file) in &weight_map {
        if !shards.contains_key(file.as_str()) {
            if !Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
                || file.is_empty()
            {
                return Err(fault(format!("`{file}` is not a file beside the index")));
            }
            let shard = path.with_file_name(file);
            shards.insert(file, open_single(&shard, Mapped::open(&shard)?)?);
        }
        let shard = shards.get_mut(file.as_str()).ok_or_else(|| fault(format!("`{file}` is missing")))?;
        let stored = shard
            .tensors
            .remove(name)
            .ok_or_else(|| fault(format!("`{file}` does not hold tensor `{name}`")))?;
        tensors.insert(name.clone(), stored);
    }
    let mut metadata = BTreeMap::new();
    for shard in shards.into_values() {
        metadata.extend(shard.metadata);
        // What a shard holds beyond the list belongs to the checkpoint as well, as for Hugging Face's reader.
        for (name, stored) in shard.tensors {
            tensors.entry(name).or_insert(stored);
        }
    }
    Ok(Checkpoint { path: path.to_path_buf(), format: Format::Sharded, metadata, tensors })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{fixture, temporary};
    use super::super::{RawTensor, TensorSource, open, write_safetensors};
    use super::*;

    #[test]
    fn shards_read_as_one() {
        let directory = temporary();
        let index = directory.path().join("model.safetensors.index.json");
        for (file, name, value) in [("one.safetensors", "a", 1.0), ("two.safetensors", "b", 2.0)] {
            let tensor = [(name.to_owned(), RawTensor::from_f32(&[], &[value]))];
            write_safetensors(&directory.path().join(file), tensor, &BTreeMap::new()).expect("written");
        }
        let open_with = |weight_map: &str| {
            std::fs::write(&index, format!("{{\"weight_map\":{weight_map}}}")).expect("written");
            open(&index)
        };
        let checkpoint = open_with(r#"{"a":"one.safetensors","b":"two.safetensors"}"#).expect("opened");
        assert_eq!(
            (checkpoint.format(), checkpoint.names()),
            (Format::Sharded, vec!["a".into(), "b".into()])
        );
        assert_eq!(checkpoint.read("b").expect("read").to_f32(), [2.0]);
        for (weight_map, expected) in [
            (r#"{"a":"one.safetensors","b":"one.safetensors"}"#, "does not hold tensor `b`"),
            (r#"{"a":"../one.safetensors"}"#, "not a file beside"),
            (r#"{"a":"/etc/passwd"}"#, "not a file beside"),
            (r#"{"a":"three.safetensors"}"#, "three.safetensors"),
            ("3", "weight_map"),
        ] {
            let message = open_with(weight_map).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn pickled_shards_open() {
        let Some(path) = fixture("llava-original-tiny/pytorch_model.bin.index.json") else { return };
        let checkpoint = open(&path).expect("opened");
        assert!(checkpoint.names().len() > 10);
        for name in checkpoint.names() {
            checkpoint.read(&name).expect("read");
        }
    }
}
