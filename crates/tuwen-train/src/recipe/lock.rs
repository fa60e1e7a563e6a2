//! Towers that stay as they are but for their last groups (LiT, arXiv 2111.07991), as open_clip's `--lock-image` and
//! `--lock-text`.

use serde::{Deserialize, Serialize};
use tuwen_models::clip::groups::Tower;
use tuwen_nn::Parameters;

use crate::TrainError;

/// Which towers are locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The image tower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<LockedTower>,
    /// The text tower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<LockedTower>,
}

/// How much of a locked tower learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedTower {
    /// How many groups do, from the output on: the projection, the last layer with its norm, the layers before it, the
    /// embeddings; in a ResNet the attention pool, the stages, the stem.
    #[serde(default)]
    pub unlocked_layers: usize,
}

impl Lock {
    pub(super) fn is_open(&self) -> bool {
        self == &Self::default()
    }

    /// Freezes what is locked. What is frozen already stays so.
    ///
    /// # Errors
    /// The network has no such tower, or one of fewer groups.
    pub fn apply(&self, parameters: &Parameters) -> Result<(), TrainError> {
        for (tower, lock) in [(Tower::Vision, self.vision), (Tower::Text, self.text)] {
            let Some(LockedTower { unlocked_layers }) = lock else { continue };
            let groups = tower.groups(parameters);
            if groups.is_empty() {
                return Err(TrainError::Lock(format!("{tower}: the network has no such tower")));
            }
            let Some(locked) = groups.len().checked_sub(unlocked_layers) else {
                let groups = groups.len();
                return Err(TrainError::Lock(format!(
                    "{tower}.unlocked_layers is {unlocked_layers}; the tower has {groups} groups"
                )));
            };
            for entry in groups[..locked].iter().flatten() {
                entry.param.set_trainable(false);
            }
        }
        Ok(())
    }
}
