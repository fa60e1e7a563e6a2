//! Which word of a caption matches which of a reference.

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
    pairs: Vec<Pair>,
    chunks: usize,
    /// How far the words of pairs are from each other.
    distance: usize,
}

/// Alignments that are kept while words are added; METEOR's own number.
const BEAM: usize = 40;

impl Alignment {
    /// In the order of the caption.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Runs of pairs that stand next to each other on both sides.
    pub fn chunks(&self) -> usize {
        self.chunks
    }

    fn with(&self, pair: Pair) -> Self {
        let follows = self
            .pairs
            .last()
            .is_some_and(|last| last.candidate + 1 == pair.candidate && last.reference + 1 == pair.reference);
        let mut longer = self.clone();
        longer.pairs.push(pair);
        longer.chunks += usize::from(!follows);
        longer.distance += pair.candidate.abs_diff(pair.reference);
        longer
    }

    /// More pairs are better, then fewer chunks, then words that are near each other.
    fn rank(&self) -> (std::cmp::Reverse<usize>, usize, usize) {
        (std::cmp::Reverse(self.pairs.len()), self.chunks, self.distance)
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
    let mut beam = vec![Alignment::default()];
    for i in 0..candidate.len() {
        let matches: Vec<Pair> = (0..reference.len())
            .filter_map(|j| kind(i, j).map(|kind| Pair { candidate: i, reference: j, kind }))
            .collect();
        if matches.is_empty() {
            continue;
        }
        let free = |alignment: &Alignment, pair: &Pair| {
            alignment.pairs.iter().all(|p| p.reference != pair.reference)
        };
        let mut longer: Vec<Alignment> = beam
            .iter()
            .flat_map(|alignment| {
                matches.iter().filter(|pair| free(alignment, pair)).map(|&pair| alignment.with(pair))
            })
            .collect();
        beam.append(&mut longer);
        beam.sort_by_key(Alignment::rank);
        beam.truncate(BEAM);
    }
    beam.into_iter().next().unwrap_or_default()
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
        let references: Vec<usize> = alignment.pairs().iter().map(|pair| pair.reference).collect();
        assert_eq!((references, alignment.chunks()), (vec![3, 4], 1));
    }

    #[test]
    fn no_word_matches_twice() {
        assert_eq!(aligned("dog dogs dog", "dogs").pairs().len(), 1);
        assert_eq!(aligned("running", "runs").pairs()[0].kind, Kind::Stem);
    }

    #[test]
    fn a_long_repetition_takes_no_time() {
        let text = "the ".repeat(300);
        assert_eq!(aligned(text.trim(), text.trim()).pairs().len(), 300);
    }
}
