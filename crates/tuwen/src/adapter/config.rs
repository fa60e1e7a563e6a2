//! peft's `adapter_config.json` (reference: peft `tuners/lora/config.py`).

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};
use tuwen_data::files::read_text;
use tuwen_nn::LoraConfig;

use crate::Error;

/// What is read of the file.
pub(super) struct AdapterConfig {
    /// Settings, without the target modules.
    pub config: LoraConfig,
    /// What the user who made it called the base model.
    pub base: Option<String>,
}

/// The keys that change what an adapter computes.
#[derive(Deserialize)]
struct Keys {
    peft_type: String,
    base_model_name_or_path: Option<String>,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    alpha_pattern: Option<Map<String, Value>>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
}

/// Reads the settings of a LoRA adapter.
pub(super) fn read(path: &Path) -> Result<AdapterConfig, Error> {
    /// A hundred times what peft writes.
    const LONGEST: u64 = 1 << 20;
    let fault = |reason: String| Error::Adapter { path: path.to_owned(), reason };
    let text = read_text(path, LONGEST).map_err(Error::io(path))?;
    let keys: Keys = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
    let unknown = |what: &str| Err(fault(format!("{what}; tuwen reads plain LoRA adapters")));
    if keys.peft_type != "LORA" {
        return unknown(&format!("peft_type is {:?}", keys.peft_type));
    }
    if keys.use_dora {
        return unknown("use_dora is true");
    }
    if keys.alpha_pattern.is_some_and(|pattern| !pattern.is_empty()) {
        return unknown("alpha_pattern gives layers an alpha of their own");
    }
    if !keys.lora_alpha.is_finite() {
        return Err(fault("lora_alpha is no number".to_owned()));
    }
    let config = LoraConfig {
        r: keys.r,
        lora_alpha: keys.lora_alpha,
        use_rslora: keys.use_rslora,
        target_modules: Vec::new(),
        modules_to_save: keys.modules_to_save.unwrap_or_default(),
    };
    Ok(AdapterConfig { config, base: keys.base_model_name_or_path })
}
