//! Which word of a caption matches which of a reference.

use std::cmp::Reverse;

use rust_stemmers::Stemmer;

/// Why two words match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Exact,
    Stem,
}

/// A word of a caption and the word of the reference that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub candidate: usize,
    pub reference: usize,
    pub kind: Kind,
}

/// Pairs of matching words, each word in one at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alignment {
    /// In the order of the caption.
    pub pairs: Vec<Pair>,
    /// Runs of pairs that stand next to each other on both sides.
    pub chunks: usize,
}

/// Alignments that are kept while words are added. METEOR keeps 40 and misses the best alignment of some long captions.
const BEAM: usize = 100;

/// An alignment of the first words of a caption.
#[derive(Clone, Default)]
struct Partial {
    /// The last pair, as a place in the list of all pairs, each of which knows the one before it.
    last: Option<usize>,
    /// The words of the reference that are taken, a bit each.
    taken: Vec<u64>,
    quality: Quality,
}

/// How good an alignment is, the least being the best. METEOR rounds the weights of stems down to nothing: one more match of
/// stems is welcome only where it makes no new chunk.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Quality {
    exact: Reverse<usize>,
    chunks: usize,
    pairs: Reverse<usize>,
    distance: usize,
}

impl Partial {
    fn is_free(&self, reference: usize) -> bool {
        self.taken.get(reference / 64).is_none_or(|word| word >> (reference % 64) & 1 == 0)
    }

    /// The quality with one more pair after `last`.
    fn quality_with(&self, pair: Pair, last: Option<Pair>) -> Quality {
        let follows = last
            .is_some_and(|last| last.candidate + 1 == pair.candidate && last.reference + 1 == pair.reference);
        Quality {
            exact: Reverse(self.quality.exact.0 + usize::from(pair.kind == Kind::Exact)),
            pairs: Reverse(self.quality.pairs.0 + 1),
            chunks: self.quality.chunks + usize::from(!follows),
            distance: self.quality.distance + pair.candidate.abs_diff(pair.reference),
        }
    }

    fn take(mut self, place: usize, reference: usize, quality: Quality) -> Self {
        self.taken.resize(self.taken.len().max(reference / 64 + 1), 0);
        self.taken[reference / 64] |= 1 << (reference % 64);
        Self { last: Some(place), quality, ..self }
    }
}

/// The best alignment of two texts.
pub fn align(candidate: &[String], reference: &[String], stemmer: &Stemmer) -> Alignment {
    let stems =
        |tokens: &[String]| tokens.iter().map(|token| stemmer.stem(token).into_owned()).collect::<Vec<_>>();
    let (candidate_stems, reference_stems) = (stems(candidate), stems(reference));
    let kind = |i: usize, j: usize| {
        let exact = (candidate[i] == reference[j]).then_some(Kind::Exact);
        exact.or_else(|| (candidate_stems[i] == reference_stems[j]).then_some(Kind::Stem))
    };
    let matches = |i: usize| -> Vec<Pair> {
        let pair = |j| kind(i, j).map(|kind| Pair { candidate: i, reference: j, kind });
        (0..reference.len()).filter_map(pair).collect()
    };
    let matches: Vec<Vec<Pair>> = (0..candidate.len()).map(matches).collect();
    let mut rivals = vec![0; reference.len()];
    matches.iter().flatten().for_each(|pair| rivals[pair.reference] += 1);
    search(&matches, &rivals)
}

/// Searches with a beam, a word of the caption at a time. `matches` has the pairs of each word, `rivals` how many words of the
/// caption match each word of the reference.
fn search(matches: &[Vec<Pair>], rivals: &[usize]) -> Alignment {
    let mut history: Vec<(Pair, Option<usize>)> = Vec::new();
    let mut beam = vec![Partial::default()];
    for matches in matches.iter().filter(|matches| !matches.is_empty()) {
        // Two words that match nothing else are a pair whatever it costs.
        let certain = matches.len() == 1 && rivals[matches[0].reference] == 1;
        let mut next: Vec<(Quality, usize, Option<Pair>)> = Vec::new();
        for (index, partial) in beam.iter().enumerate() {
            let last = partial.last.map(|place| history[place].0);
            let free = matches.iter().filter(|pair| partial.is_free(pair.reference));
            next.extend(free.map(|&pair| (partial.quality_with(pair, last), index, Some(pair))));
            next.extend((!certain).then_some((partial.quality, index, None)));
        }
        next.sort_by_key(|&(quality, ..)| quality);
        next.truncate(BEAM);
        let mut grow = |(quality, index, pair): (Quality, usize, Option<Pair>)| {
            let partial = beam[index].clone();
            let Some(pair) = pair else { return partial };
            history.push((pair, partial.last));
            partial.take(history.len() - 1, pair.reference, quality)
        };
        beam = next.into_iter().map(&mut grow).collect();
    }
    let Some(best) = beam.first() else { return Alignment::default() };
    let mut pairs: Vec<Pair> =
        std::iter::successors(best.last, |&place| history[place].1).map(|place| history[place].0).collect();
    pairs.reverse();
    Alignment { pairs, chunks: best.quality.chunks }
}

#[cfg(test)]
mod tests {
    use rust_stemmers::Algorithm;

    use super::*;

    fn aligned(candidate: &str, reference: &str) -> Alignment {
        let tokens = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        align(&tokens(candidate), &tokens(reference), &Stemmer::create(Algorithm::English))
    }

    #[test]
    fn few_chunks_are_chosen_among_equal_words() {
        // "the" of the caption could match either; the second makes one run of "the dog".
        let alignment = aligned("the dog", "the cat and the dog");
        let references: Vec<usize> = alignment.pairs.iter().map(|pair| pair.reference).collect();
        assert_eq!((references, alignment.chunks), (vec![3, 4], 1));
    }

    #[test]
    fn no_word_matches_twice() {
        assert_eq!(aligned("dog dogs dog", "dogs").pairs.len(), 1);
        assert_eq!(aligned("the x the", "the").pairs.len(), 1);
        assert_eq!(aligned("running", "runs").pairs[0].kind, Kind::Stem);
    }

    #[test]
    fn stems_with_a_choice_match_where_they_make_no_chunk() {
        // As METEOR 1.5 does: exact matches, matches of stems, chunks.
        for (candidate, reference, expected) in [
            ("dog x dog", "dogs", (0, 0, 0)),
            ("kayaks x", "kayaking", (0, 1, 1)),
            ("a dog x dog", "a dogs", (1, 1, 1)),
            ("a dog x dogs", "a dogs", (2, 0, 2)),
            ("run cat dog x run cat dog", "runs cats dogs", (0, 0, 0)),
            ("dog p q r dog playing", "dogs playing", (1, 1, 1)),
            ("dog cat dog", "dogs cats", (0, 2, 1)),
            ("the x the dog", "dogs the", (1, 1, 2)),
            ("dog x cat dog", "dogs y cat z dogs", (1, 0, 1)),
            ("a b c x c", "a y c b", (3, 0, 3)),
        ] {
            let alignment = aligned(candidate, reference);
            let exact = alignment.pairs.iter().filter(|pair| pair.kind == Kind::Exact).count();
            let got = (exact, alignment.pairs.len() - exact, alignment.chunks);
            assert_eq!(got, expected, "{candidate}, {reference}");
        }
    }

    #[test]
    fn a_long_repetition_takes_no_time() {
        let text = "the ".repeat(300);
        assert_eq!(aligned(text.trim(), text.trim()).pairs.len(), 300);
    }
}
