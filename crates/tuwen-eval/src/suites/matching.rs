//! Matching: whether a caption of an image is told from one of another image, by their vectors and by a head that saw both.

use std::ops::Range;

use tuwen::{PairScore, Picture};
use tuwen_data::dataset::{DataError, Dataset};
use tuwen_data::rng::Rng;
use tuwen_kernels::parallel_chunks_mut;

use crate::encode::{Chunk, each_chunk};
use crate::{EvalError, Metrics};

/// All captions of a data set, and for each one of another image.
pub struct Matching<'d> {
    dataset: &'d dyn Dataset,
    captions: Vec<String>,
    /// For each sample its captions, each followed by one of another image.
    pairs: Vec<Vec<u32>>,
}

/// What a model says of an image and a caption.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The cosine of their vectors.
    pub similarity: f32,
    /// What a head that saw both says, where there is one: the logit of a match, and its probability.
    pub itm: Option<[f32; 2]>,
}

impl From<PairScore> for Verdict {
    fn from(score: PairScore) -> Self {
        Self { similarity: score.similarity, itm: Some([score.itm_logit, score.itm]) }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Matched {
    /// In percent: `itc_pair_accuracy` is how often an image's own caption has the higher cosine of the two; by a head,
    /// `itm_pair_accuracy` is the same by its logit, and `itm_accuracy` how often it says of a caption what is true of it, at
    /// a probability of a half. `pairs` counts them.
    pub metrics: Metrics,
    /// Images that were looked at.
    pub images: usize,
    /// Samples that could not be read, with the reason.
    pub failed: Vec<String>,
}

impl<'d> Matching<'d> {
    /// Reads the captions of a data set, and draws by `seed` for each one of another image. Images are not looked at yet: a
    /// caption of one that turns out to be broken stands beside others as any other does.
    ///
    /// # Errors
    /// No captions, or captions of one image only.
    pub fn of(dataset: &'d dyn Dataset, seed: u64) -> Result<Self, EvalError> {
        let data = || dataset.name().to_owned();
        let mut texts: Vec<Result<Vec<String>, DataError>> =
            (0..dataset.len()).map(|_| Ok(Vec::new())).collect();
        parallel_chunks_mut(&mut texts, 1, |number, slot| {
            slot[0] = dataset.get(number).map(|sample| sample.texts);
        });
        let (mut captions, mut own, mut unread) = (Vec::new(), Vec::new(), None);
        for texts in texts {
            let first = captions.len() as u32;
            match texts {
                Ok(texts) => captions.extend(texts),
                Err(error) => unread = unread.or(Some(error)),
            }
            own.push(first..captions.len() as u32);
        }
        if captions.is_empty() {
            return Err(match unread {
                Some(error) => EvalError::NoImages { data: data(), reason: error.to_string() },
                None => EvalError::NoCaptions(data()),
            });
        }
        let pairs = with_wrong_ones(&own, captions.len(), seed);
        if pairs.iter().all(Vec::is_empty) {
            return Err(EvalError::OneImage(data()));
        }
        Ok(Self { dataset, captions, pairs })
    }

    /// The captions, to whose numbers pairs refer.
    pub fn captions(&self) -> &[String] {
        &self.captions
    }

    /// Looks at each image that has captions, once. `judge` is given some images and for each the numbers of captions; `done` is
    /// told how many more samples were read.
    ///
    /// # Errors
    /// No image with captions can be read, or verdicts that are no numbers.
    pub fn measure<I: Send>(
        &self,
        prepare: impl Fn(&Picture) -> I + Sync,
        done: &mut dyn FnMut(usize),
        mut judge: impl FnMut(&[I], &[Vec<u32>]) -> Vec<Vec<Verdict>>,
    ) -> Result<Matched, EvalError> {
        let (mut told, mut looked_at) = (Told::default(), 0);
        let failed = each_chunk(self.dataset, prepare, done, |Chunk { numbers, images, .. }| {
            let described = numbers.iter().zip(images).filter(|(number, _)| !self.pairs[**number].is_empty());
            let (wanted, images): (Vec<Vec<u32>>, Vec<I>) =
                described.map(|(&number, image)| (self.pairs[number].clone(), image)).unzip();
            looked_at += images.len();
            let verdicts = if images.is_empty() { Vec::new() } else { judge(&images, &wanted) };
            verdicts.iter().flat_map(|verdicts| verdicts.as_chunks().0).for_each(|pair| told.add(pair));
            if told.is_finite { Ok(()) } else { Err(EvalError::NotFinite) }
        })?;
        if looked_at == 0 {
            let reason = failed.into_iter().next().unwrap_or_default();
            return Err(EvalError::NoImages { data: self.dataset.name().to_owned(), reason });
        }
        Ok(Matched { metrics: told.metrics(), images: looked_at, failed })
    }
}

/// For each image its captions, each followed by one of another image; nothing where there is no other.
fn with_wrong_ones(captions: &[Range<u32>], count: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut random = Rng::new(&[seed]);
    let mut of_image = |own: &Range<u32>| {
        let others = count as u64 - own.len() as u64;
        let mut wrong = || {
            let drawn = random.below(others) as u32;
            if drawn < own.start { drawn } else { drawn + own.len() as u32 }
        };
        match others {
            0 => Vec::new(),
            _ => own.clone().flat_map(|right| [right, wrong()]).collect(),
        }
    };
    captions.iter().map(&mut of_image).collect()
}

/// What was told right so far, of pairs of a right and a wrong caption.
struct Told {
    pairs: f64,
    by_cosine: f64,
    /// Pairs that a head judged.
    judged: f64,
    by_head: f64,
    decisions: f64,
    is_finite: bool,
}

impl Default for Told {
    fn default() -> Self {
        Self { pairs: 0.0, by_cosine: 0.0, judged: 0.0, by_head: 0.0, decisions: 0.0, is_finite: true }
    }
}

impl Told {
    fn add(&mut self, [right, wrong]: &[Verdict; 2]) {
        self.pairs += 1.0;
        self.by_cosine += first_is_higher(right.similarity, wrong.similarity);
        self.is_finite &= (right.similarity + wrong.similarity).is_finite();
        if let (Some([right_logit, right]), Some([wrong_logit, wrong])) = (right.itm, wrong.itm) {
            self.judged += 1.0;
            self.by_head += first_is_higher(right_logit, wrong_logit);
            self.decisions += f64::from(u8::from(right > 0.5) + u8::from(wrong <= 0.5)) / 2.0;
            self.is_finite &= (right_logit + wrong_logit).is_finite();
        }
    }

    fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::from([
            ("itc_pair_accuracy".to_owned(), 100.0 * self.by_cosine / self.pairs),
            ("pairs".to_owned(), self.pairs),
        ]);
        if self.judged > 0.0 {
            metrics.insert("itm_pair_accuracy".to_owned(), 100.0 * self.by_head / self.judged);
            metrics.insert("itm_accuracy".to_owned(), 100.0 * self.decisions / self.judged);
        }
        metrics
    }
}

/// 1, or a half for equal ones.
fn first_is_higher(first: f32, second: f32) -> f64 {
    match first.total_cmp(&second) {
        std::cmp::Ordering::Less => 0.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Greater => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tuwen_data::dataset::Sample;

    use super::*;

    /// Samples of so many captions; `None` has a broken image.
    struct Described(Vec<Option<usize>>);

    impl Dataset for Described {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn get(&self, index: usize) -> Result<Sample, DataError> {
            let image = match self.0[index] {
                Some(_) => bmp(index as u8),
                None => b"broken".to_vec(),
            };
            let texts = (0..self.0[index].unwrap_or(1)).map(|text| format!("{index}-{text}")).collect();
            Ok(Sample { key: index.to_string(), image, texts, ..Sample::default() })
        }

        fn name(&self) -> &str {
            "described"
        }
    }

    /// A picture of one pixel.
    fn bmp(red: u8) -> Vec<u8> {
        let mut file = b"BM".to_vec();
        for word in [58, 0, 54, 40, 1, 1, 24 << 16 | 1, 0, 4, 0, 0, 0, 0_u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend([0, 0, red, 0]);
        file
    }

    #[test]
    fn wrong_captions_are_of_other_images() {
        let captions = [0..2, 2..2, 2..3, 3..6];
        let pairs = with_wrong_ones(&captions, 6, 1);
        for (own, pairs) in captions.iter().zip(&pairs) {
            let (right, wrong): (Vec<u32>, Vec<u32>) =
                pairs.as_chunks().0.iter().map(|[a, b]| (*a, *b)).unzip();
            assert_eq!(right, own.clone().collect::<Vec<_>>());
            assert!(wrong.iter().all(|text| !own.contains(text) && *text < 6), "{pairs:?}");
        }
        let drawn: std::collections::BTreeSet<u32> =
            (0..50).flat_map(|seed| with_wrong_ones(&captions, 6, seed).remove(2)).collect();
        assert_eq!(drawn.len(), 6, "all of the others are drawn at some time");
        let alone = std::slice::from_ref(&(0..2));
        assert_eq!(with_wrong_ones(alone, 2, 1), [Vec::<u32>::new()]);
    }

    #[test]
    fn what_is_told_is_counted() {
        let verdict = |itm: f32, similarity: f32| Verdict { similarity, itm: Some([itm, itm]) };
        let mut told = Told::default();
        told.add(&[verdict(0.9, 0.1), verdict(0.2, 0.1)]);
        told.add(&[verdict(0.4, 0.3), verdict(0.3, 0.7)]);
        let metrics = told.metrics();
        let metric = |name: &str| metrics[name];
        assert_eq!(metric("itm_pair_accuracy"), 100.0);
        assert_eq!(metric("itc_pair_accuracy"), 25.0);
        assert_eq!(metric("itm_accuracy"), 75.0);
        assert_eq!(metric("pairs"), 2.0);
        assert!(told.is_finite);
        told.add(&[verdict(f32::NAN, 0.1), verdict(0.2, 0.1)]);
        assert!(!told.is_finite);
    }

    /// Each image is prepared and judged once, beside its own captions by number, though a broken one lies before it.
    #[test]
    fn each_image_is_looked_at_once() {
        let dataset = Described(vec![Some(2), None, Some(0), Some(3)]);
        let matching = Matching::of(&dataset, 7).expect("captions");
        assert_eq!(matching.captions(), ["0-0", "0-1", "1-0", "3-0", "3-1", "3-2"]);
        let prepared = AtomicUsize::new(0);
        let prepare = |picture: &Picture| {
            prepared.fetch_add(1, Ordering::Relaxed);
            picture.to_rgb().data[0]
        };
        let (mut read, mut judged) = (0, Vec::new());
        let matched = matching.measure(prepare, &mut |count| read += count, |images, wanted| {
            judged.extend(images.iter().copied());
            let of_image = |(image, wanted): (&u8, &Vec<u32>)| {
                let own = |&text: &u32| matching.captions()[text as usize].starts_with(&image.to_string());
                let verdict = |text| Verdict { similarity: f32::from(u8::from(own(text))), itm: None };
                wanted.iter().map(verdict).collect()
            };
            images.iter().zip(wanted).map(of_image).collect()
        });
        let matched = matched.expect("measured");
        assert_eq!((prepared.into_inner(), read, judged), (3, 4, vec![0, 3]));
        let expected = [("itc_pair_accuracy".to_owned(), 100.0), ("pairs".to_owned(), 5.0)];
        assert_eq!(matched.metrics, Metrics::from(expected), "a model without a head has no itm_");
        assert_eq!((matched.images, matched.failed.len()), (2, 1));
        assert!(matched.failed[0].starts_with("1: "), "{:?}", matched.failed);
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let refused = |samples: &[Option<usize>]| {
            let dataset = Described(samples.to_vec());
            let measured = Matching::of(&dataset, 0)
                .and_then(|matching| matching.measure(|_| (), &mut |_| (), |_, _| Vec::new()));
            measured.expect_err("refused").to_string()
        };
        assert!(refused(&[Some(0), Some(0)]).contains("needs captions"));
        assert!(refused(&[Some(2), Some(0)]).contains("two images"));
        assert!(refused(&[None, None]).contains("no image can be read"));
    }
}
