//! `cargo xtask bench`: tuwen and its peers, interleaved in one run, as a table of ratios.
//!
//! A row is a stage of a model in a precision. Everyone who takes part in it is a process; they measure in turns, round
//! after round, so that what else happens on the machine happens to all. What was found is printed and kept in
//! `bench/runs`.

mod figures;
mod machine;
mod options;
mod ours;
mod peers;
mod plan;
mod python;
mod report;

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use figures::{Figure, Result as Found};
use machine::Machine;
use options::Options;
use ours::Ours;
use peers::Peer;
use plan::Row;
use python::Python;
use report::{Kept, Run};

pub use options::USAGE;

/// Between two turns: threads of a process that has had its turn spin for a while before they sleep.
const PAUSE: Duration = Duration::from_millis(400);

/// Where things lie.
struct Places {
    /// Scripts of the peers.
    peers: PathBuf,
    /// Checkpoints, exported models and the environment of Python.
    work: PathBuf,
    /// Results of runs.
    runs: PathBuf,
    /// The photograph of `start_up`.
    photograph: PathBuf,
}

/// Measures the rows that the options ask for.
///
/// # Errors
/// Options that make no sense, a program that does not build, Python that cannot be had, or results that cannot be written.
/// Peers that are missing or fail are named and left out.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let root = &root.canonicalize().map_err(|error| format!("{}: {error}", root.display()))?;
    let places = Places {
        peers: root.join("bench/peers"),
        work: root.join("target/bench"),
        runs: root.join("bench/runs"),
        photograph: root.join("examples/photos/astronaut.jpg"),
    };
    let ours = Ours::build(root, options.threads)?;
    let python = Python::find(&options, &places)?;
    let machine = Machine::look(options.threads);
    let peers = peers::listed(&python, &places, &options)?;
    let kept = Kept::new(&places.runs, &machine)?;
    let mut run = Run { machine, versions: peers::versions(&peers), options, found: Vec::new() };
    let rows = plan::rows(&run.options);
    for (number, row) in rows.iter().enumerate() {
        eprintln!("== {} of {}: {row}", number + 1, rows.len());
        match measure(row, &run.options, &ours, &python, &peers, &places) {
            Ok(result) => {
                eprintln!("{}", report::line(&result));
                run.found.push(result);
                kept.write(&run)?;
            }
            Err(message) => eprintln!("left out: {message}"),
        }
    }
    println!("{}", run.markdown());
    eprintln!("kept in {}.md and .jsonl", kept.path().display());
    Ok(())
}

/// One row: all rounds of everyone.
fn measure(
    row: &Row,
    options: &Options,
    ours: &Ours,
    python: &Python,
    peers: &[Peer],
    places: &Places,
) -> Result<Found, String> {
    let checkpoint = row.model.map(|model| python.checkpoint(model, places)).transpose()?;
    let mut own = Figure::new("tuwen");
    let take_part =
        |peer: &&Peer| peer.precision == row.precision && peer.stages.iter().any(|s| s == row.stage);
    let mut others = Vec::new();
    for peer in peers.iter().filter(take_part) {
        let process = peer.start(python, checkpoint.as_deref(), options.threads, places)?;
        others.push((process, Figure::new(&peer.name)));
    }
    for _ in 0..options.rounds {
        sleep(PAUSE);
        own.add(ours.measure(row, checkpoint.as_deref(), options.seconds)?);
        others.retain_mut(|(process, figure)| {
            sleep(PAUSE);
            match process.ask(row, options.seconds) {
                Ok(answer) => figure.add(answer),
                Err(message) => {
                    eprintln!("{} is left out: {message}", figure.who);
                    return false;
                }
            }
            true
        });
    }
    let others = others.into_iter().map(|(_, figure)| figure).collect();
    Ok(Found { row: row.clone(), own, others })
}
