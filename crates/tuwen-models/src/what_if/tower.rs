//! The sizes of a transformer at other sizes, whatever model it is a tower of.

use super::{Change, Size, Tower, WhatIfError};
use crate::VitConfig;

/// The sizes of a transformer that change together.
pub(crate) struct Sizes<'a> {
    pub width: &'a mut usize,
    pub depth: &'a mut usize,
    pub heads: &'a mut usize,
    pub mlp: &'a mut usize,
}

impl Sizes<'_> {
    /// Heads keep their width where the width of the tower allows it, else their number; MLPs keep their ratio.
    pub(crate) fn change(self, tower: Tower, changes: &[Change]) -> Result<(), WhatIfError> {
        let (width, heads) = (*self.width, *self.heads);
        set(changes, tower, Size::Depth, self.depth)?;
        set(changes, tower, Size::Width, self.width)?;
        *self.heads = heads_of(*self.width, width, heads, tower)
            .or_else(|error| Change::find(changes, tower, Size::Heads).map(|_| heads).ok_or(error))?;
        if let Some(amount) = Change::find(changes, tower, Size::Heads) {
            *self.heads = amount.of(format_args!("{tower}.heads"), heads)?;
        }
        *self.mlp = (*self.mlp as f64 * *self.width as f64 / width as f64).round() as usize;
        set(changes, tower, Size::Mlp, self.mlp)
    }
}

impl VitConfig {
    /// Sets what concerns the tower of images.
    pub(crate) fn change(&mut self, changes: &[Change]) -> Result<(), WhatIfError> {
        set(changes, Tower::Vision, Size::Image, &mut self.image_size)?;
        set(changes, Tower::Vision, Size::Patch, &mut self.patch_size)?;
        let Self { image_size: image, patch_size: patch, .. } = *self;
        let resized = changes.iter().any(|change| matches!(change.size, Size::Image | Size::Patch));
        if resized && !image.is_multiple_of(patch) {
            return Err(WhatIfError::Patch { image, patch });
        }
        let sizes = Sizes {
            width: &mut self.hidden_size,
            depth: &mut self.num_hidden_layers,
            heads: &mut self.num_attention_heads,
            mlp: &mut self.intermediate_size,
        };
        sizes.change(Tower::Vision, changes)
    }

    /// What can be changed of the tower of images but for the image, with the present values.
    pub(crate) fn sizes(&self) -> [(&'static str, usize); 5] {
        [
            ("vision.width", self.hidden_size),
            ("vision.depth", self.num_hidden_layers),
            ("vision.heads", self.num_attention_heads),
            ("vision.mlp", self.intermediate_size),
            ("patch", self.patch_size),
        ]
    }
}

/// Sets a size if a change concerns it.
pub(crate) fn set(
    changes: &[Change],
    tower: Tower,
    size: Size,
    value: &mut usize,
) -> Result<(), WhatIfError> {
    if let Some(amount) = Change::find(changes, tower, size) {
        *value = amount.of(format_args!("{tower}.{size}"), *value)?;
    }
    Ok(())
}

/// The number of heads of a tower that had another width.
pub(crate) fn heads_of(
    width: usize,
    before: usize,
    heads: usize,
    tower: Tower,
) -> Result<usize, WhatIfError> {
    let head_width = before / heads;
    match () {
        () if width.is_multiple_of(head_width) => Ok(width / head_width),
        () if width.is_multiple_of(heads) => Ok(heads),
        () => Err(WhatIfError::Heads { tower, width, head_width, heads }),
    }
}

/// Heads and width of a tower about half as wide.
pub(crate) fn half(heads: usize, width: usize) -> (usize, usize) {
    match heads {
        1 => (1, width.div_ceil(2)),
        _ => (heads.div_ceil(2), heads.div_ceil(2) * (width / heads)),
    }
}
