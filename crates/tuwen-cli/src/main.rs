//! The command-line program `tuwen`.

mod ahead;
mod arguments;
mod commands;
mod console;
mod data_check;
mod explain;
mod failure;
mod images;
mod instruction_set;
mod interrupt;
mod labels;
mod lines;
mod memory;
mod models;
mod output;
mod pipeline;
mod stores;
mod texts;
mod verify;
mod writing;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Verb};
use commands::{
    ask, bench, capfilt, caption, classify, completions, convert, embed, eval, man, r#match, params, pull,
};
use console::Console;
use failure::{Failure, Status};

fn main() -> ExitCode {
    let hook = std::panic::take_hook();
    // A damaged file over which a decoder panics becomes an error of its own.
    std::panic::set_hook(Box::new(move |panic| {
        if !tuwen_data::is_guarded() {
            hook(panic);
        }
    }));
    let arguments = Arguments::parse();
    let console = Console::new(arguments.global.json, arguments.global.quiet);
    match run(&arguments, &console) {
        Ok(status) => status.into(),
        Err(failure) if failure.is_closed_pipe() => Status::Done.into(),
        Err(failure) => {
            console.warn(&failure);
            failure.status.into()
        }
    }
}

fn run(arguments: &Arguments, console: &Console) -> Result<Status, Failure> {
    let global = &arguments.global;
    instruction_set::force()?;
    tuwen_kernels::set_threads(global.threads.map_or(0, usize::from));
    match &arguments.verb {
        Verb::Embed(verb) => embed::run(verb, global, console),
        Verb::Classify(verb) => classify::run(verb, global, console),
        Verb::Match(verb) => r#match::run(verb, global, console),
        Verb::Caption(verb) => caption::run(verb, global, console),
        Verb::Ask(verb) => ask::run(verb, global, console),
        Verb::Params(verb) => params::run(verb, global, console),
        Verb::Pull(verb) => pull::run(verb, global, console),
        Verb::Convert(verb) => convert::run(verb, global, console),
        Verb::Train(verb) => verb.run(console),
        Verb::Capfilt(verb) => capfilt::run(verb, global, console),
        Verb::Eval(verb) => eval::run(verb, global, console),
        Verb::Verify(verb) => commands::verify::run(verb, console),
        Verb::Bench(verb) => bench::run(verb, global, console),
        Verb::Completions(verb) => completions::run(verb, console),
        Verb::Man(verb) => man::run(verb, console),
    }
}
