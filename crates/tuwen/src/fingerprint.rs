//! A number that tells models apart.

use std::fmt::Write as _;

use crate::Model;

/// What is tokenized to tell tokenizers apart: words, case, numbers, scripts, spaces.
const PROBE: &str = "Tuwen 图文: a photo of a  cat, 1234 dogs & Straßenbahn \u{1f408}";

impl Model {
    /// Sixteen hexadecimal digits that follow from everything that decides its answers: weights, sizes, preprocessing
    /// and tokenizer. Equal for two loads of one model wherever its files are; no protection against forgery.
    pub fn fingerprint(&self) -> String {
        let mut hash = Fnv::new();
        // Writing to a hash cannot fail.
        let _ = write!(hash, "{:?}{:?}", self.config(), self.processor.transform);
        if let Some(tokenizer) = self.tokenizer.get() {
            let _ = write!(hash, "{:?}{:?}", tokenizer, tokenizer.encode(PROBE));
        }
        for entry in self.network().parameters().iter() {
            let value = entry.param.value();
            let _ = write!(hash, "{}{:?}", entry.name, value.shape());
            value.to_vec().iter().for_each(|value| hash.add(u64::from(value.to_bits())));
        }
        format!("{:016x}", hash.0)
    }
}

/// FNV-1a of 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>), over words as well as bytes.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

impl std::fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        text.bytes().for_each(|byte| self.add(u64::from(byte)));
        Ok(())
    }
}
