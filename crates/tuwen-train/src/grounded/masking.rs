//! Masked tokens, which ALBEF predicts (BERT's rule: arXiv 1810.04805, section 3.1).

use tuwen_data::rng::Rng;
use tuwen_models::TokenIds;

/// Texts some of whose tokens are hidden.
#[derive(Clone, Debug)]
pub struct Masked {
    /// What is read.
    pub tokens: TokenIds,
    /// Places in `[batch, tokens]` of what is to be predicted.
    pub places: Vec<u32>,
    /// The tokens that stood there.
    pub ids: Vec<u32>,
}

/// Ids that masking needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaskingIds {
    pub pad: u32,
    pub cls: u32,
    pub mask: u32,
    pub vocab_size: usize,
}

impl Masked {
    /// Each token but padding and the first is chosen with this probability. Of those, 80 % become `[MASK]`, 10 % any
    /// token, and 10 % stay.
    pub(super) fn draw(tokens: &TokenIds, probability: f32, ids: MaskingIds, random: &mut Rng) -> Self {
        let mut masked = Self { tokens: tokens.clone(), places: Vec::new(), ids: Vec::new() };
        for (place, id) in masked.tokens.ids.iter_mut().enumerate() {
            let chosen = random.chance(probability) && *id != ids.pad && *id != ids.cls;
            if !chosen {
                continue;
            }
            masked.places.push(place as u32);
            masked.ids.push(*id);
            if random.chance(0.8) {
                *id = ids.mask;
            } else if random.chance(0.5) {
                *id = random.below(ids.vocab_size as u64) as u32;
            }
        }
        masked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_hidden_and_never_the_first_or_padding() {
        let row: Vec<u32> = [101].into_iter().chain(200..218).chain([0]).collect();
        let tokens = TokenIds { ids: row.repeat(500), length: 20, attention_mask: None };
        let ids = MaskingIds { pad: 0, cls: 101, mask: 103, vocab_size: 300 };
        let masked = Masked::draw(&tokens, 0.15, ids, &mut Rng::new(&[4]));
        let share = masked.places.len() as f64 / (18.0 * 500.0);
        assert!((share - 0.15).abs() < 0.01, "{share}");
        assert!(masked.places.iter().all(|place| ![0, 19].contains(&(place % 20))));
        let now = |place: &u32| masked.tokens.ids[*place as usize];
        let count = |is: &dyn Fn(u32, u32) -> bool| {
            let hits =
                masked.places.iter().zip(&masked.ids).filter(|(place, id)| is(now(place), **id)).count();
            hits as f64 / masked.places.len() as f64
        };
        let (hidden, kept) = (count(&|now, _| now == 103), count(&|now, id| now == id));
        assert!((hidden - 0.8).abs() < 0.05 && (kept - 0.1).abs() < 0.04, "{hidden} {kept}");
        assert!(masked.places.iter().zip(&masked.ids).all(|(place, &id)| tokens.ids[*place as usize] == id));
    }
}
