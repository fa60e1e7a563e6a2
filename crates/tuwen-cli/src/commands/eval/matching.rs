//! `eval matching`: captions are told from those of other images.

use clap::Args;
use tuwen::{Ability, Error};
use tuwen_eval::{EvalError, suites};

use super::pairs::Pairs;
use super::{Common, Data, measure};
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
        let measured = (&self.data, &self.common);
        measure("matching", measured, (global, console), Ability::Match, |measured| {
            let unable = |error: Error| EvalError::Model(error.to_string());
            let pairs = Pairs::of(measured, measured.model.pair_scorer().map_err(unable)?)?;
            let mut progress = console.progress(measured.dataset.len() as u64, "images matched");
            let data = (measured.dataset, measured.encoded);
            let mut done = |count| progress.advance(count as u64);
            suites::matching(&measured.embedder, data, self.seed, &mut done, |images, wanted| {
                pairs.score(images, wanted)
            })
        })
    }
}
