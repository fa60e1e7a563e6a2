//! `eval matching`: captions are told from those of other images.

use clap::Args;
use tuwen::{Ability, Embedder, Embeddings, Error, Model, Pixels};
use tuwen_eval::suites::{self, Verdict};
use tuwen_eval::{Encoder, EvalError};

use super::pairs::Pairs;
use super::{Common, Data, Found, suite};
use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};

/// Arguments of `eval matching`.
#[derive(Args)]
pub struct Matching {
    #[command(flatten)]
    data: Data,
    /// What decides which caption of another image stands beside each
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    common: Common,
}

impl Matching {
    pub fn run(&self, global: &Global, console: &Console) -> Result<Status, Failure> {
        let tasks = [Ability::Match, Ability::Compare];
        suite("matching", (&self.data, &self.common), (global, console), tasks, |model, dataset| {
            let matching = suites::Matching::of(dataset, self.seed)?;
            let captions: Vec<&str> = matching.captions().iter().map(String::as_str).collect();
            let embedder = model.embedder();
            let judge = Judge::of(model, &captions)?;
            let mut progress = console.progress(dataset.len() as u64, "images matched");
            let mut done = |count| progress.advance(count as u64);
            let prepare = |picture: &_| embedder.prepare(picture);
            let matched =
                matching.measure(prepare, &mut done, |images, wanted| judge.verdicts(images, wanted))?;
            Ok(Found { metrics: matched.metrics, images: matched.images, failed: matched.failed })
        })
    }
}

/// What says how well images and captions fit.
enum Judge<'m> {
    /// A head that saw both.
    Head(Pairs<'m>),
    /// Vectors alone.
    Vectors(Embedder<'m>, Embeddings),
}

impl<'m> Judge<'m> {
    fn of(model: &'m Model, captions: &[&str]) -> Result<Self, EvalError> {
        match model.pair_scorer() {
            Ok(scorer) => Ok(Self::Head(Pairs::of(captions, scorer)?)),
            Err(Error::Unable { .. }) => {
                let embedder = model.embedder();
                let texts = embedder.texts(captions).map_err(|error| EvalError::Model(error.to_string()))?;
                Ok(Self::Vectors(embedder, texts.embeddings))
            }
            Err(error) => Err(EvalError::Model(error.to_string())),
        }
    }

    /// Of images and those captions whose numbers stand in their lists.
    fn verdicts(&self, images: &[Pixels], wanted: &[Vec<u32>]) -> Vec<Vec<Verdict>> {
        match self {
            Self::Head(pairs) => {
                let scores = pairs.score(images, wanted).into_iter();
                scores.map(|scores| scores.into_iter().map(Verdict::from).collect()).collect()
            }
            Self::Vectors(embedder, captions) => {
                let images = Encoder::images(embedder, images);
                let of_image = |(image, wanted): (usize, &Vec<u32>)| {
                    let cosine = |&text: &u32| images.dot_of_rows(image, captions, text as usize);
                    wanted.iter().map(|text| Verdict { similarity: cosine(text), itm: None }).collect()
                };
                wanted.iter().enumerate().map(of_image).collect()
            }
        }
    }
}
