//! Token ids as networks take them.

use tuwen_data::tokenizer::TokenBatch;

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

    /// Tokens of one text, without padding where a mask tells it.
    pub fn tokens(&self, row: usize) -> usize {
        let Some(mask) = &self.attention_mask else { return self.length };
        let seen = mask[row * self.length..][..self.length].iter().rposition(|&seen| seen);
        seen.map_or(0, |last| last + 1)
    }

    /// Some of the texts, by their numbers.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        self.cut(rows, self.length)
    }

    /// Some of the texts, by their numbers, in rows as long as the longest of them.
    #[must_use]
    pub fn compact(&self, rows: &[u32]) -> Self {
        self.cut(rows, rows.iter().map(|&row| self.tokens(row as usize)).max().unwrap_or(0))
    }

    fn cut(&self, rows: &[u32], length: usize) -> Self {
        let mask_of = |mask: &Vec<bool>| {
            let row = |&row: &u32| mask[row as usize * self.length..][..length].iter().copied();
            rows.iter().flat_map(row).collect()
        };
        Self {
            ids: rows.iter().flat_map(|&row| self.row(row as usize)[..length].iter().copied()).collect(),
            length,
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

/// All texts of a tokenizer's batch, with its mask.
impl From<TokenBatch> for TokenIds {
    fn from(batch: TokenBatch) -> Self {
        let TokenBatch { ids, attention_mask, context_length: length, .. } = batch;
        Self { ids, length, attention_mask: Some(attention_mask) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_rows_are_as_long_as_the_longest_of_them() {
        let mask = vec![true, true, false, true, true, true, true, false, false];
        let ids = vec![1, 2, 0, 3, 4, 5, 6, 0, 0];
        let tokens = TokenIds { ids, length: 3, attention_mask: Some(mask) };
        let some = tokens.compact(&[2, 0]);
        assert_eq!((some.ids, some.length), (vec![6, 0, 1, 2], 2));
        assert_eq!(some.attention_mask, Some(vec![true, false, true, true]));
        assert_eq!(tokens.compact(&[1, 1]).ids, [3, 4, 5, 3, 4, 5]);
        assert_eq!(tokens.select(&[]).batch(), 0);
    }

    #[test]
    fn each_row_gets_another_first_token() {
        let tokens = TokenIds { ids: vec![1, 2, 3, 4, 5, 6], length: 3, attention_mask: None };
        assert_eq!(tokens.starting_with(9).ids, [9, 2, 3, 9, 5, 6]);
    }
}
