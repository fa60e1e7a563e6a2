//! Changes to the sizes of a model, as a user writes them: `width=0.5,text.depth=6`.

mod grounded;
mod tower;

use std::fmt;
use std::str::FromStr;

use crate::clip::config::ConfigError;

pub(crate) use tower::{Sizes, half, heads_of, set};

/// A tower of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tower {
    /// That of images.
    Vision,
    /// That of texts.
    Text,
}

/// A size that may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Width of the tokens, or channels after a ResNet's stem; heads and the MLPs' inner width follow.
    Width,
    /// Number of layers.
    Depth,
    /// Number of attention heads.
    Heads,
    /// Width inside the MLPs.
    Mlp,
    /// Side of a patch in pixels.
    Patch,
    /// Side of the image in pixels.
    Image,
    /// Number of token ids.
    Vocab,
    /// Longest text in tokens.
    Context,
    /// Width of the joint space.
    Joint,
}

/// Every size with what it is called, and the only tower that has it.
const SIZES: [(Size, &str, Option<Tower>); 9] = [
    (Size::Width, "width", None),
    (Size::Depth, "depth", None),
    (Size::Heads, "heads", None),
    (Size::Mlp, "mlp", None),
    (Size::Patch, "patch", Some(Tower::Vision)),
    (Size::Image, "image", Some(Tower::Vision)),
    (Size::Vocab, "vocab", Some(Tower::Text)),
    (Size::Context, "context", Some(Tower::Text)),
    (Size::Joint, "joint", None),
];

/// What a size becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// This.
    Exactly(usize),
    /// What it was, times this.
    Times(f64),
}

/// A change of one size, in one tower or wherever there is such a size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Where; everywhere unless given.
    pub tower: Option<Tower>,
    /// What.
    pub size: Size,
    /// To what.
    pub amount: Amount,
}

/// Why a change cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WhatIfError {
    /// It is not written as one.
    #[error("{text:?} {problem}")]
    Syntax {
        /// What was written.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A factor does not give a whole number.
    #[error("{key}: {from} x {factor} is {}, no whole number", *from as f64 * factor)]
    NotWhole {
        /// The size.
        key: String,
        /// What it was.
        from: usize,
        /// What it was multiplied by.
        factor: f64,
    },
    /// A size that this model does not have.
    #[error("{key}: {reason}")]
    NotHere {
        /// The size.
        key: String,
        /// Why not.
        reason: &'static str,
    },
    /// Heads that do not share the width evenly.
    #[error(
        "{tower}.width {width} makes neither heads of {head_width} nor {heads} heads; set {tower}.heads too"
    )]
    Heads {
        /// The tower.
        tower: Tower,
        /// Its width.
        width: usize,
        /// Width of a head before.
        head_width: usize,
        /// Number of heads before.
        heads: usize,
    },
    /// Patches that do not cover the image evenly.
    #[error("image {image} is no multiple of patch {patch}")]
    Patch {
        /// Side of the image.
        image: usize,
        /// Side of a patch.
        patch: usize,
    },
    /// Sizes that make no network.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl fmt::Display for Tower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vision => "vision",
            Self::Text => "text",
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SIZES.iter().find(|(size, ..)| size == self).map_or("", |(_, name, _)| name))
    }
}

/// `vision.width=0.5`: a number with a point or an `x` (`0.5`, `x2`, `2x`) multiplies, a whole number is the new size.
impl FromStr for Change {
    type Err = WhatIfError;

    fn from_str(text: &str) -> Result<Self, WhatIfError> {
        let fail = |problem: String| WhatIfError::Syntax { text: text.to_owned(), problem };
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| fail("is no change; write a size and a value, such as width=0.5".to_owned()))?;
        let key = key.trim().to_ascii_lowercase();
        let (tower, name) = match key.split_once('.') {
            None => (None, key.as_str()),
            Some(("vision", name)) => (Some(Tower::Vision), name),
            Some(("text", name)) => (Some(Tower::Text), name),
            Some((other, _)) => return Err(fail(format!("names {other:?}; towers are vision and text"))),
        };
        let &(size, _, only) = SIZES.iter().find(|(_, known, _)| *known == name).ok_or_else(|| {
            fail(format!("names no size; sizes are {}", SIZES.map(|(_, name, _)| name).join(", ")))
        })?;
        let belongs = match (size, only, tower) {
            (_, _, None) => true,
            (Size::Joint, ..) => false,
            (_, only, tower) => only.is_none() || only == tower,
        };
        if !belongs {
            return Err(fail(format!("names a size that this tower does not have; write {name}")));
        }
        Ok(Self { tower, size, amount: amount(value.trim()).map_err(fail)? })
    }
}

fn amount(text: &str) -> Result<Amount, String> {
    let factor = text.strip_prefix(['x', 'X']).or_else(|| text.strip_suffix(['x', 'X']));
    if factor.is_none() && !text.contains('.') {
        let whole = text.parse().ok().filter(|&size| size > 0);
        let problem = "has no value; a whole number is the new size, 0.5 or x2 multiplies the old one";
        return whole.map(Amount::Exactly).ok_or_else(|| problem.to_owned());
    }
    let factor: Option<f64> = factor.unwrap_or(text).trim().parse().ok();
    let factor = factor.filter(|factor| factor.is_finite() && *factor > 0.0);
    factor.map(Amount::Times).ok_or_else(|| "has no factor above 0".to_owned())
}

impl Change {
    /// The change of a list that concerns a size of a tower; the last one counts, and one that names the tower before
    /// one that does not.
    pub(crate) fn find(changes: &[Self], tower: Tower, size: Size) -> Option<Amount> {
        let of =
            |wanted| changes.iter().rev().find(move |change| change.size == size && change.tower == wanted);
        of(Some(tower)).or_else(|| of(None)).map(|change| change.amount)
    }
}

impl Amount {
    /// The new size.
    pub(crate) fn of(self, key: impl fmt::Display, from: usize) -> Result<usize, WhatIfError> {
        match self {
            Self::Exactly(size) => Ok(size),
            Self::Times(factor) => {
                let size = from as f64 * factor;
                let whole = size >= 1.0 && (size - size.round()).abs() < 1e-6 * size;
                let not_whole = || WhatIfError::NotWhole { key: key.to_string(), from, factor };
                whole.then_some(size.round() as usize).ok_or_else(not_whole)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_or_an_x_multiplies() {
        let amount = |text: &str| text.parse::<Change>().expect(text).amount;
        for (text, expected) in [
            ("depth=2", Amount::Exactly(2)),
            ("depth=2.0", Amount::Times(2.0)),
            ("depth = x2", Amount::Times(2.0)),
            ("text.depth=2x", Amount::Times(2.0)),
            ("Vision.Width=0.5", Amount::Times(0.5)),
        ] {
            assert_eq!(amount(text), expected, "{text}");
        }
        let change: Change = "text.vocab=1000".parse().expect("a change");
        assert_eq!((change.tower, change.size), (Some(Tower::Text), Size::Vocab));
    }

    #[test]
    fn what_is_no_change_is_said_to_be_none() {
        for (text, expected) in [
            ("width", "is no change"),
            ("breadth=2", "sizes are width, depth"),
            ("audio.width=2", "towers are vision and text"),
            ("vision.vocab=2", "write vocab"),
            ("text.joint=2", "write joint"),
            ("width=", "has no value"),
            ("width=0", "has no value"),
            ("width=-1", "has no value"),
            ("width=x0", "no factor above 0"),
            ("width=nan.", "no factor above 0"),
            ("width=1e400x", "no factor above 0"),
        ] {
            let message = text.parse::<Change>().expect_err(text).to_string();
            assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        }
    }
}
