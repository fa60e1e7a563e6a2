//! `eval zeroshot`: images against prompts made from the names of their classes.

use clap::Args;
use tuwen::templates;
use tuwen_eval::suites;

use super::{Common, Data, measure};
use crate::arguments::Global;
use crate::console::Console;
use crate::failure::{Failure, Status};

/// Arguments of `eval zeroshot`.
#[derive(Args)]
pub struct ZeroShot {
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    common: Common,
    /// A sentence with {} where the class goes; several are averaged [default: "a photo of a {}."]
    #[arg(long = "template", value_name = "TEXT")]
    templates: Vec<String>,
    /// A set of such sentences by its name
    #[arg(long = "templates", value_name = "NAME", conflicts_with = "templates")]
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(["imagenet7"]))]
    template_set: Option<String>,
}

impl ZeroShot {
    pub fn run(&self, global: &Global, console: &Console) -> Result<Status, Failure> {
        let templates = self.templates();
        // A template without a place is wrong usage, before anything is loaded.
        templates::fill(&["x"], &templates).map_err(Failure::usage)?;
        measure("zeroshot", (&self.data, &self.common), (global, console), |embedder, encoded| {
            suites::zero_shot(embedder, encoded, &templates)
        })
    }

    fn templates(&self) -> Vec<String> {
        match self.template_set.as_deref().and_then(templates::find) {
            Some(set) => set.iter().map(|&template| template.to_owned()).collect(),
            None if self.templates.is_empty() => vec![templates::PHOTO.to_owned()],
            None => self.templates.clone(),
        }
    }
}
