//! `eval zeroshot`: images against prompts made from the names of their classes.

use clap::Args;
use tuwen::Ability;
use tuwen_eval::suites;

use super::{Common, Data, measure};
use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};
use crate::labels::TemplateOptions;

/// Arguments of `eval zeroshot`.
#[derive(Args)]
pub struct ZeroShot {
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    templates: TemplateOptions,
}

impl ZeroShot {
    pub fn run(&self, global: &Global, console: &Console) -> Result<Status, Failure> {
        let templates = self.templates.read(None, console)?;
        measure("zeroshot", (&self.data, &self.common), (global, console), Ability::Compare, |measured| {
            suites::zero_shot(&measured.embedder, measured.encoded, &templates)
        })
    }
}
