//! A network that can be run on shapes, at other sizes too.

use tuwen_models::ModelCost;
use tuwen_models::clip::ClipConfig;
use tuwen_models::what_if::{Change, Size, WhatIfError};
use tuwen_nn::LoadReport;

use crate::GroundedConfig;

/// Sizes of a network of whichever family.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Network {
    Clip(ClipConfig),
    Grounded(GroundedConfig),
}

impl Network {
    /// Parameters, operations and memory.
    pub fn cost(&self) -> Result<ModelCost, LoadReport> {
        match self {
            Self::Clip(config) => config.cost(),
            Self::Grounded(config) => config.cost(),
        }
    }

    /// The network with some sizes changed.
    pub fn changed(&self, changes: &[Change]) -> Result<Self, WhatIfError> {
        Ok(match self {
            Self::Clip(config) => Self::Clip(config.changed(changes)?),
            Self::Grounded(GroundedConfig::Blip(config)) => {
                Self::Grounded(GroundedConfig::Blip(config.changed(changes)?))
            }
            Self::Grounded(GroundedConfig::Albef(config)) => {
                Self::Grounded(GroundedConfig::Albef(config.changed(changes)?))
            }
        })
    }

    /// The network with one size halved, where it can be.
    pub fn halved(&self, size: Size) -> Option<Self> {
        match self {
            Self::Clip(config) => config.halved(size).map(Self::Clip),
            Self::Grounded(GroundedConfig::Blip(config)) => {
                config.halved(size).map(GroundedConfig::Blip).map(Self::Grounded)
            }
            Self::Grounded(GroundedConfig::Albef(config)) => {
                config.halved(size).map(GroundedConfig::Albef).map(Self::Grounded)
            }
        }
    }

    /// What can be changed, with the present values.
    pub fn sizes(&self) -> Vec<(String, String)> {
        match self {
            Self::Clip(config) => config.sizes(),
            Self::Grounded(GroundedConfig::Blip(config)) => config.sizes(),
            Self::Grounded(GroundedConfig::Albef(config)) => config.sizes(),
        }
    }
}
