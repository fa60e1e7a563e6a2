//! `eval retrieval`: images and their captions find each other.

use clap::Args;
use tuwen::{Ability, PairScorer};
use tuwen_eval::{EvalError, Metrics, suites};

use super::pairs::Pairs;
use super::{Common, Data, Measured, measure};
use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};

/// Arguments of `eval retrieval`.
#[derive(Args)]
pub struct Retrieval {
    #[command(flatten)]
    data: Data,
    /// Candidates of each query that a model with an itm head ranks anew; 0 ranks by vectors alone. The papers take 256 for
    /// COCO and 128 for Flickr30k
    #[arg(long, value_name = "K", default_value_t = 128)]
    rerank: usize,
    #[command(flatten)]
    common: Common,
}

impl Retrieval {
    pub fn run(&self, global: &Global, console: &Console) -> Result<Status, Failure> {
        measure("retrieval", (&self.data, &self.common), (global, console), Ability::Compare, |measured| {
            let without = measured.encoded.samples.iter().filter(|sample| sample.texts.is_empty()).count();
            if without > 0 {
                console.warn(format_args!(
                    "{without} images come without captions: texts are not looked for with them"
                ));
            }
            match measured.model.pair_scorer() {
                Ok(scorer) if self.rerank > 0 => self.rerank(measured, scorer, console),
                _ => suites::retrieval(&measured.embedder, measured.encoded),
            }
        })
    }

    fn rerank(
        &self,
        measured: &Measured<'_>,
        scorer: PairScorer<'_>,
        console: &Console,
    ) -> Result<Metrics, EvalError> {
        let samples = measured.encoded.samples.iter();
        let captions: Vec<&str> = samples.flat_map(|sample| &sample.texts).map(String::as_str).collect();
        let pairs = Pairs::of(&captions, scorer)?;
        let mut progress = console.progress(measured.dataset.len() as u64, "images ranked anew");
        suites::reranked_retrieval(
            &measured.embedder,
            (measured.dataset, measured.encoded),
            pairs.embeddings(),
            self.rerank,
            &mut |count| progress.advance(count as u64),
            |images, wanted| {
                let scores = pairs.score(images, wanted).into_iter();
                scores.map(|scores| scores.iter().map(|score| score.itm_logit).collect()).collect()
            },
        )
    }
}
