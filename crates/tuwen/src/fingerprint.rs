//! A number that tells models apart.

use std::fmt::{self, Write as _};

use tuwen_kernels::parallel_chunks_mut;

use crate::Model;
use crate::towers::Towers;

/// What is tokenized to tell tokenizers apart: words, case, numbers, scripts, spaces.
const PROBE: &str = "Tuwen 图文: a photo of a  cat, 1234 dogs & Straßenbahn \u{1f408}";

impl Model {
    /// Sixteen hexadecimal digits that follow from everything that decides its answers: weights, sizes, preprocessing
    /// and tokenizer. Equal for two loads of one model wherever its files are; no protection against forgery. The
    /// precision of its products is no part of it.
    pub fn fingerprint(&self) -> String {
        let mut hash = Fnv::default();
        // Writing to a hash cannot fail.
        self.towers.describe(&mut hash);
        let parameters: Vec<_> = self.parameters().iter().collect();
        let mut of_values = vec![0; parameters.len()];
        parallel_chunks_mut(&mut of_values, 1, |i, out| {
            let mut hash = Fnv::default();
            parameters[i].param.value().with_values(|values| {
                values.iter().for_each(|value| hash.add(u64::from(value.to_bits())));
            });
            out[0] = hash.0;
        });
        for (entry, of_values) in parameters.iter().zip(of_values) {
            let _ = write!(hash, "{}{:?}", entry.name, entry.param.shape());
            hash.add(of_values);
        }
        hash.to_string()
    }
}

impl Towers {
    /// Writes everything but the weights that decides answers.
    fn describe(&self, hash: &mut Fnv) {
        // Writing to a hash cannot fail.
        let _ = match self {
            Self::Clip(model) => write!(hash, "{:?}{:?}", model.config, self.transform()),
            Self::Grounded(model) => write!(hash, "{:?}{:?}", model.config(), self.transform()),
        };
        match self {
            Self::Clip(model) => {
                if let Some(tokenizer) = model.tokenizer() {
                    let _ = write!(hash, "{:?}{:?}", tokenizer, tokenizer.encode(PROBE));
                }
            }
            Self::Grounded(model) => {
                if let Some(tokenizer) = model.tokenizer() {
                    let _ = write!(hash, "{:?}{:?}", tokenizer, tokenizer.encode(PROBE));
                }
            }
        }
    }
}

/// FNV-1a of 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>), over words as well as bytes.
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Adds a word.
    pub(crate) fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    }

    /// The number of all that was added.
    pub(crate) fn value(&self) -> u64 {
        self.0
    }
}

impl fmt::Display for Fnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.add(u64::from(byte)));
        Ok(())
    }
}
