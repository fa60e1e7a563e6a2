//! Captions to encode.

use tuwen_data::rng::Rng;

/// How many are encoded together.
pub const COUNT: usize = 64;

const WORDS: &str = "a the two boy girl man woman dog horse crowd red blue green small tall old runs jumps sits plays looks \
    stands on in near over with grass water snow beach street bench ball bicycle";

/// Sentences of 6 to 15 words, as people write them under pictures; the same ones every time.
pub fn captions() -> Vec<String> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut rng = Rng::new(&[7]);
    let mut caption = |_| {
        let length = 6 + rng.below(10);
        let drawn: Vec<&str> = (0..length).map(|_| words[rng.below(words.len() as u64) as usize]).collect();
        drawn.join(" ")
    };
    (0..COUNT).map(&mut caption).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_differ_and_stay_the_same() {
        let mut captions = captions();
        assert_eq!(captions, super::captions());
        assert!(captions.iter().all(|caption| (6..16).contains(&caption.split(' ').count())));
        captions.sort();
        captions.dedup();
        assert_eq!(captions.len(), COUNT);
    }
}
