//! Prompt templates: sentences with a place for the label.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use clap::builder::PossibleValuesParser;
use tuwen::templates;

use super::{clean, lists};
use crate::console::Console;
use crate::failure::Failure;

/// Where templates come from.
#[derive(Args)]
pub struct TemplateOptions {
    /// A sentence with {} where the label goes; several are averaged [default: "a photo of a {}."]
    #[arg(long = "template", value_name = "TEXT", value_parser = template)]
    templates: Vec<String>,
    /// A set of such sentences by its name
    #[arg(long = "templates", value_name = "NAME", conflicts_with = "templates")]
    #[arg(value_parser = PossibleValuesParser::new(["imagenet7"]))]
    template_set: Option<String>,
    /// A file of such sentences, one a line, or .json as for --labels-file; {c} is understood as well as {}
    #[arg(long, value_name = "FILE", conflicts_with_all = ["templates", "template_set"])]
    templates_file: Option<PathBuf>,
}

impl TemplateOptions {
    /// The templates, without blanks and repetitions; `dataset` says whose in a file of several.
    ///
    /// # Errors
    /// A file that cannot be used or holds none, or a template without a place for the label.
    pub fn read(&self, dataset: Option<&str>, console: &Console) -> Result<Vec<String>, Failure> {
        if let Some(set) = self.template_set.as_deref().and_then(templates::find) {
            return Ok(set.iter().map(|&template| template.to_owned()).collect());
        }
        let Some(path) = &self.templates_file else {
            let given = clean(&self.templates, "template", console);
            return Ok(if given.is_empty() { vec![templates::PHOTO.to_owned()] } else { given });
        };
        let fault = |problem| Failure::usage(anyhow!("{}: {problem}", path.display()));
        let read = clean(&lists::read(path, dataset)?, "template", console);
        if read.is_empty() {
            let of = dataset.map_or(String::new(), |name| format!(" of data set {name:?}"));
            return Err(fault(format!("there are no templates{of}")));
        }
        let checked =
            read.iter().map(|text| template(text).map_err(|problem| fault(format!("{text:?}: {problem}"))));
        checked.collect()
    }

    /// The file, if templates come from one.
    pub fn file(&self) -> Option<&PathBuf> {
        self.templates_file.as_ref()
    }
}

/// A template with {} where the label goes.
fn template(text: &str) -> Result<String, String> {
    if text.contains("{}") {
        Ok(text.to_owned())
    } else if text.contains("{c}") {
        Ok(text.replace("{c}", "{}"))
    } else {
        Err("it has no {} where the label goes".to_owned())
    }
}
