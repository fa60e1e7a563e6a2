//! `completions`: a script that lets a shell complete this program's arguments.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::console::Console;
use crate::failure::{Failure, Status};

/// Arguments of `completions`.
#[derive(Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Runs `completions`.
pub fn run(arguments: &Completions, console: &Console) -> Result<Status, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "tuwen", &mut script);
    console.print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Status::Done)
}
