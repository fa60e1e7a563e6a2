//! `man`: manual pages.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;
use tuwen_tensor::checkpoint::write_atomically;

use crate::arguments::Arguments;
use crate::console::Console;
use crate::failure::{Failure, Status};

/// Arguments of `man`.
#[derive(Args)]
pub struct Manual {
    /// Where the pages go, one for the program and one for each verb; without it the program's is printed
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Runs `man`.
pub fn run(arguments: &Manual, console: &Console) -> Result<Status, Failure> {
    let mut program = Arguments::command();
    program.build();
    let Some(directory) = &arguments.directory else {
        console.print(String::from_utf8_lossy(&page(&program)?).trim_end())?;
        return Ok(Status::Done);
    };
    fs::create_dir_all(directory).with_context(|| directory.display().to_string()).map_err(Failure::usage)?;
    let verbs = program.get_subcommands().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set());
    for command in std::iter::once(&program).chain(verbs) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let path = directory.join(format!("{name}.1"));
        let text = page(command)?;
        write_atomically(&path, |out| std::io::Write::write_all(out, &text))?;
        console.print(path.display())?;
    }
    Ok(Status::Done)
}

/// The page of the program or a verb, as `man` reads it.
fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let source = format!("tuwen {}", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).source(source).manual("tuwen").render(&mut text)?;
    Ok(text)
}
