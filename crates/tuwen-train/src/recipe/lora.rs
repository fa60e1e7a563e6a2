//! Low-rank adapters, with peft's words and defaults.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tuwen_nn::{LoraConfig, Parameters};

use super::{Model, positive};
use crate::TrainError;

/// Trains low-rank adapters of linear layers (LoRA, arXiv 2106.09685) and leaves the rest of the network as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rank of the change.
    #[serde(default = "default_r")]
    pub r: usize,
    /// The change is multiplied by this and divided by the rank.
    #[serde(default = "default_lora_alpha")]
    pub lora_alpha: f64,
    /// Divides by the root of the rank instead (arXiv 2312.03732).
    #[serde(default)]
    pub use_rslora: bool,
    /// Linear layers by the last parts of their names, in which `*` stands for any characters.
    #[serde(default = "default_target_modules")]
    pub target_modules: Vec<String>,
    /// Parts of the network that learn as a whole beside the adapters, named alike.
    #[serde(default)]
    pub modules_to_save: Vec<String>,
    /// The towers whose layers are adapted.
    #[serde(default = "default_towers")]
    pub towers: Vec<AdaptedTower>,
}

/// A tower, by the recipe's word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdaptedTower {
    /// The image tower.
    Vision,
    /// The text tower.
    Text,
}

fn default_r() -> usize {
    8
}

fn default_lora_alpha() -> f64 {
    8.0
}

fn default_target_modules() -> Vec<String> {
    ["q_proj", "v_proj"].map(str::to_owned).to_vec()
}

fn default_towers() -> Vec<AdaptedTower> {
    vec![AdaptedTower::Vision, AdaptedTower::Text]
}

impl Lora {
    pub(super) fn check(&self, model: &Model) -> Result<(), String> {
        if model.init_from.is_none() {
            return Err("[lora] needs model.init_from: an adapter changes a model that has learnt".into());
        }
        positive("lora.r", self.r as f64)?;
        positive("lora.lora_alpha", self.lora_alpha)?;
        if self.target_modules.is_empty() || self.towers.is_empty() {
            return Err("lora: neither target_modules nor towers may be empty".into());
        }
        Ok(())
    }

    /// The settings of the network's layers.
    pub fn config(&self) -> LoraConfig {
        LoraConfig {
            r: self.r,
            lora_alpha: self.lora_alpha,
            use_rslora: self.use_rslora,
            target_modules: self.target_modules.iter().flat_map(|module| self.patterns(module)).collect(),
            modules_to_save: self.modules_to_save.clone(),
        }
    }

    /// The names of a module in the towers that are adapted.
    fn patterns(&self, module: &str) -> Vec<String> {
        if [AdaptedTower::Vision, AdaptedTower::Text].iter().all(|tower| self.towers.contains(tower)) {
            return vec![module.to_owned()];
        }
        self.towers.iter().map(|tower| tower.within(module)).collect()
    }

    /// Everything that the recipe names has to be there.
    pub(crate) fn check_names(&self, parameters: &Parameters) -> Result<(), TrainError> {
        let fault = |message: String| Err(TrainError::Lora(message));
        for module in &self.target_modules {
            let alone = LoraConfig { target_modules: self.patterns(module), ..LoraConfig::default() };
            if !parameters.linears().iter().any(|path| alone.adapts(path)) {
                let last_part = |path: &String| path.rsplit('.').next().unwrap_or_default().to_owned();
                let known: BTreeSet<String> = parameters.linears().iter().map(last_part).collect();
                let known = known.into_iter().collect::<Vec<_>>().join(", ");
                let place = if self.towers.len() == 1 { " in this tower" } else { "" };
                return fault(format!(
                    "target_modules: no linear layer{place} is called {module:?}; known are {known}"
                ));
            }
        }
        for module in &self.modules_to_save {
            let alone = LoraConfig { modules_to_save: vec![module.clone()], ..LoraConfig::default() };
            if !parameters.iter().any(|entry| alone.saves(&entry.name)) {
                return fault(format!("modules_to_save: nothing in the network is called {module:?}"));
            }
        }
        Ok(())
    }
}

impl AdaptedTower {
    /// The pattern of a module's name in this tower.
    fn within(self, module: &str) -> String {
        match self {
            Self::Vision => format!("vision_model.*.{module}"),
            Self::Text => format!("text_model.*.{module}"),
        }
    }
}
