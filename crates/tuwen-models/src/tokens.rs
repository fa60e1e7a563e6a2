//! Token ids as networks take them.

/// Token ids of a batch of texts, padded to one length.
#[derive(Clone, Debug)]
pub struct TokenIds {
    /// `[batch, length]`, row-major.
    pub ids: Vec<u32>,
    /// Tokens in each row.
    pub length: usize,
    /// `[batch, length]`, true for real tokens. Without it every token is seen, except what a causal mask hides: that
    /// nothing after the end of a text can reach it is enough for CLIP.
    pub attention_mask: Option<Vec<bool>>,
}

impl TokenIds {
    /// Number of texts.
    pub fn batch(&self) -> usize {
        self.ids.len() / self.length.max(1)
    }

    /// The ids of one text, padding included.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.ids[row * self.length..][..self.length]
    }

    /// Some of the texts, by their numbers.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        let mask_of = |mask: &Vec<bool>| {
            let row = |&row: &u32| mask[row as usize * self.length..][..self.length].iter().copied();
            rows.iter().flat_map(row).collect()
        };
        Self {
            ids: rows.iter().flat_map(|&row| self.row(row as usize).iter().copied()).collect(),
            length: self.length,
            attention_mask: self.attention_mask.as_ref().map(mask_of),
        }
    }

    /// The same texts with another first token.
    #[must_use]
    pub fn starting_with(mut self, id: u32) -> Self {
        self.ids.iter_mut().step_by(self.length.max(1)).for_each(|first| *first = id);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_gets_another_first_token() {
        let tokens = TokenIds { ids: vec![1, 2, 3, 4, 5, 6], length: 3, attention_mask: None };
        assert_eq!(tokens.select(&[1, 1]).ids, [4, 5, 6, 4, 5, 6]);
        assert_eq!(tokens.starting_with(9).ids, [9, 2, 3, 9, 5, 6]);
    }
}
