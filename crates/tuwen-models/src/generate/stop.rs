//! Texts that end where certain strings occur in them.

use super::{Listener, Token};

/// Ends texts at strings; hands tokens on.
pub struct StopStrings<'a> {
    strings: &'a [String],
    decode: &'a dyn Fn(&[u32]) -> String,
    inner: &'a mut dyn Listener,
}

impl<'a> StopStrings<'a> {
    /// Ends texts as soon as one of the strings occurs in what `decode` makes of their tokens.
    pub fn new(
        strings: &'a [String],
        decode: &'a dyn Fn(&[u32]) -> String,
        inner: &'a mut dyn Listener,
    ) -> Self {
        Self { strings, decode, inner }
    }
}

impl Listener for StopStrings<'_> {
    fn ends(&self, ids: &[u32]) -> bool {
        let found = || {
            let text = (self.decode)(ids);
            self.strings.iter().any(|string| text.contains(string.as_str()))
        };
        (!self.strings.is_empty() && found()) || self.inner.ends(ids)
    }

    fn token(&mut self, token: Token) {
        self.inner.token(token);
    }
}
