//! `train`: a model by a recipe.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;

use crate::console::Console;
use crate::failure::{Failure, Status};

/// Arguments of `train`.
#[derive(Args)]
pub struct Train {
    /// The recipe, a TOML file
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// Go on from the newest checkpoint
    #[arg(long)]
    resume: bool,
}

impl Train {
    /// Runs the verb.
    pub fn run(&self, _console: &Console) -> Result<Status, Failure> {
        let Self { recipe, resume } = self;
        let verb = if *resume { "resume" } else { "begin" };
        Err(Failure::usage(anyhow!("{}: cannot {verb} training: not supported yet", recipe.display())))
    }
}
