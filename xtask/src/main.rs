//! Project chores: `cargo xtask tidy` checks what no compiler checks, `cargo xtask ci` runs all that has to hold.

mod ci;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask tidy | ci
  tidy  check the project's invariants (see CONTRIBUTING.md)
  ci    check format, clippy, tidy and all tests; stop at the first failure";

fn main() -> ExitCode {
    // The manifest of this crate lies one folder below the root; cargo says where, also of a folder that was moved.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = &Path::new(&here).join("..");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy::run(root),
        ["ci"] => ci::run(root),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
