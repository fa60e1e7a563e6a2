//! `eval retrieval`: images and their captions find each other.

use clap::Args;
use tuwen_eval::suites;

use super::{Common, Data, measure};
use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};

/// Arguments of `eval retrieval`.
#[derive(Args)]
pub struct Retrieval {
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    common: Common,
}

impl Retrieval {
    pub fn run(&self, global: &Global, console: &Console) -> Result<Status, Failure> {
        measure("retrieval", (&self.data, &self.common), (global, console), |embedder, encoded| {
            suites::retrieval(embedder, encoded)
        })
    }
}
