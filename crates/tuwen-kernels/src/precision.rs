//! How exactly products are computed.

use std::fmt;
use std::str::FromStr;

/// The numbers that a product multiplies. Its sums are f32, or exact integers, in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Both operands rounded to 8 significant bits.
    Bf16,
    /// Weights of 8 bits with a scale for each output; activations of 8 bits with a scale for each row, found while they
    /// are packed.
    Int8,
}

impl Precision {
    /// All of them, the most exact first.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// Its name for people and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// The one that is next more exact, if there is one.
    pub fn finer(self) -> Self {
        match self {
            Self::F32 | Self::Bf16 => Self::F32,
            Self::Int8 => Self::Bf16,
        }
    }

    /// Bytes of a weight.
    pub fn weight_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::Int8 => 1,
        }
    }

    /// What products of two activations, which have no scales found in advance, use beside weights of this precision.
    pub fn of_activations(self) -> Self {
        self.min(Self::Bf16)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no precision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no precision; there are f32, bf16 and int8")]
pub struct UnknownPrecision(String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        let named = |precision: &Self| precision.name() == name;
        Self::ALL.into_iter().find(named).ok_or_else(|| UnknownPrecision(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        assert!("q4".parse::<Precision>().is_err_and(|error| error.to_string().contains("\"q4\"")));
    }
}
