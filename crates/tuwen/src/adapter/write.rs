//! Writing an adapter for peft to load.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tuwen_nn::{Entry, Kind, LoraConfig, Parameters};
use tuwen_tensor::checkpoint::{RawTensor, write_atomically, write_safetensors};

use super::{CONFIG, WEIGHTS, fault};
use crate::Error;

/// Writes the adapters of a network, and what learnt as a whole beside them, into a directory that is there.
///
/// `base` is what the model that they were trained on is called: a directory or a hub id.
///
/// # Errors
/// The network has no adapters, or a file cannot be written.
pub fn write(directory: &Path, base: &str, parameters: &Parameters) -> Result<(), Error> {
    let config =
        parameters.lora().ok_or_else(|| fault(directory, "there are no adapters to write".to_owned()))?;
    let kept = |entry: &&Entry| match entry.kind {
        Kind::Adapter => true,
        Kind::Parameter => config.saves(&entry.name),
        Kind::Buffer => false,
    };
    let tensors = parameters.iter().filter(kept).map(|entry| {
        let value = entry.param.value();
        (format!("base_model.model.{}", entry.name), RawTensor::from_f32(value.shape(), &value.to_vec()))
    });
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(&directory.join(WEIGHTS[0]), tensors, &metadata)?;
    let json = describe(config, base, parameters);
    let path = directory.join(CONFIG);
    Ok(write_atomically(&path, |out| Ok(serde_json::to_writer_pretty(out, &json)?))?)
}

fn describe(config: &LoraConfig, base: &str, parameters: &Parameters) -> Value {
    // peft knows names of modules and no patterns; full paths are names too.
    let plain = config.target_modules.iter().all(|module| !module.contains('*'));
    let adapted = || parameters.linears().iter().filter(|path| config.adapts(path)).cloned().collect();
    let target_modules: Vec<String> = if plain { config.target_modules.clone() } else { adapted() };
    // peft saves modules; a parameter of the model itself is in the file all the same, and loaded from it.
    let is_module = |name: &&String| parameters.get(name).is_none();
    let modules_to_save: Vec<&String> = config.modules_to_save.iter().filter(is_module).collect();
    let alpha = config.lora_alpha;
    json!({
        "peft_type": "LORA",
        "task_type": null,
        "base_model_name_or_path": base,
        "inference_mode": true,
        "r": config.r,
        "lora_alpha": if alpha.fract() == 0.0 { json!(alpha as i64) } else { json!(alpha) },
        "lora_dropout": 0.0,
        "use_rslora": config.use_rslora,
        "use_dora": false,
        "target_modules": target_modules,
        "modules_to_save": if modules_to_save.is_empty() { Value::Null } else { json!(modules_to_save) },
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "rank_pattern": {},
        "alpha_pattern": {},
    })
}
