//! A number that tells models apart.

use std::fmt::{self, Write as _};

use tuwen_kernels::parallel_chunks_mut;

use crate::towers::Towers;
use crate::{Error, GroundedFiles, Model};

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

impl GroundedFiles {
    /// Sixteen hexadecimal digits that follow from everything that decides answers, as [`Model::fingerprint`] does, taken
    /// from the files.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn fingerprint(&self) -> Result<String, Error> {
        let mut hash = Fnv::default();
        // Writing to a hash cannot fail.
        let _ = write!(hash, "{:?}{:?}", self.config, self.processor);
        if let Some(tokenizer) = &self.tokenizer {
            let _ = write!(hash, "{:?}{:?}", tokenizer, tokenizer.encode(PROBE));
        }
        self.add_weights("", &mut hash)?;
        Ok(hash.to_string())
    }

    /// The same for the image encoder alone: models for which it is equal see the same in an image.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn vision_fingerprint(&self) -> Result<String, Error> {
        let mut hash = Fnv::default();
        let _ = write!(hash, "{:?}{:?}", self.config.vision(), self.processor);
        self.add_weights("vision_model.", &mut hash)?;
        Ok(hash.to_string())
    }

    /// Adds the weights whose names begin so.
    fn add_weights(&self, prefix: &str, hash: &mut Fnv) -> Result<(), Error> {
        let names: Vec<String> =
            self.weights.names().into_iter().filter(|name| name.starts_with(prefix)).collect();
        let mut of_values: Vec<_> = names.iter().map(|_| Ok(0)).collect();
        parallel_chunks_mut(&mut of_values, 1, |i, out| {
            out[0] = self.weights.read(&names[i]).map(|tensor| {
                let mut hash = Fnv::default();
                // Writing to a hash cannot fail.
                let _ = write!(hash, "{:?}{:?}", tensor.dtype, tensor.shape);
                let (words, rest) = tensor.data.as_chunks::<8>();
                words.iter().for_each(|word| hash.add(u64::from_le_bytes(*word)));
                rest.iter().for_each(|&byte| hash.add(u64::from(byte)));
                hash.0
            });
            self.weights.release(&names[i]);
        });
        for (name, of_values) in names.iter().zip(of_values) {
            let _ = write!(hash, "{name}");
            hash.add(of_values?);
        }
        Ok(())
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
