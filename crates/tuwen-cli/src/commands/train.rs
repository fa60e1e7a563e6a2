//! `train`: a model by a recipe.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;

use crate::arguments::Global;
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

/// Runs `train`.
pub fn run(arguments: &Train, _global: &Global, _console: &Console) -> Result<Status, Failure> {
    let Train { recipe, resume } = arguments;
    let verb = if *resume { "resume" } else { "begin" };
    Err(Failure::usage(anyhow!("{}: cannot {verb} training: not supported yet", recipe.display())))
}
