//! Sizes of networks that come from files: whether they make a network.

use crate::{ConfigError, VitConfig};

/// Far above any published model: a size beyond it is a damaged file, and would only exhaust the memory.
const LARGEST: usize = 1 << 22;
const MOST_LAYERS: usize = 4096;

/// Every size is from 1 to [`LARGEST`].
pub(crate) fn in_range(sizes: &[(&str, usize)]) -> Result<(), ConfigError> {
    match sizes.iter().find(|(_, size)| !(1..=LARGEST).contains(size)) {
        Some((name, size)) => Err(ConfigError::Sizes(format!("{name} is {size}; expected 1 to {LARGEST}"))),
        None => Ok(()),
    }
}

/// A number of layers that can be built.
pub(crate) fn layers(name: &str, count: usize) -> Result<(), ConfigError> {
    if count <= MOST_LAYERS {
        return Ok(());
    }
    Err(ConfigError::Sizes(format!("{name} is {count}; expected at most {MOST_LAYERS}")))
}

/// A width that makes whole heads.
pub(crate) fn heads(name: &str, width: usize, heads: usize) -> Result<(), ConfigError> {
    if width.is_multiple_of(heads) {
        return Ok(());
    }
    Err(ConfigError::Sizes(format!("{name} is {width}, which does not make {heads} heads")))
}

impl VitConfig {
    /// Checks that the sizes make a network.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        in_range(&[
            ("vision hidden_size", self.hidden_size),
            ("vision intermediate_size", self.intermediate_size),
            ("vision num_attention_heads", self.num_attention_heads),
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
        ])?;
        layers("vision num_hidden_layers", self.num_hidden_layers)?;
        heads("vision hidden_size", self.hidden_size, self.num_attention_heads)?;
        if self.patch_size > self.image_size {
            let (patch, image) = (self.patch_size, self.image_size);
            return Err(ConfigError::Sizes(format!("patch_size is {patch}, larger than image_size {image}")));
        }
        Ok(())
    }
}
