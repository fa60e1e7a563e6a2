//! Project chores: `cargo xtask tidy` checks what no compiler checks, `cargo xtask ci` runs all that has to hold.
//! `cargo xtask golden` and `cargo xtask aarch64` do so for other instruction sets, `cargo xtask fuzz` looks for inputs that
//! break the readers, `cargo xtask bench` compares speed with others'.

mod aarch64;
mod bench;
mod ci;
mod command;
mod fuzz;
mod golden;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask tidy | ci | golden | aarch64 [--whole] | fuzz [TARGET]... [--seconds N] | bench [OPTION]...
  tidy     check the project's invariants (see CONTRIBUTING.md)
  ci       check format, clippy, tidy and all tests; stop at the first failure
  golden   check the golden cases on every instruction set of this CPU
  aarch64  compile for aarch64 and test the kernels under qemu, where it is there; --whole: all their tests, minutes
  fuzz     look for inputs that break a reader, N seconds (60) for each target; needs a C++ compiler
  bench    measure tuwen and other programs in turns; needs Python 3; what can be said:";

fn main() -> ExitCode {
    // The manifest of this crate lies one folder below the root; cargo says where, also of a folder that was moved.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = &Path::new(&here).join("..");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy::run(root),
        ["ci"] => ci::run(root),
        ["golden"] => golden::run(root),
        ["aarch64"] => aarch64::run(root, false),
        ["aarch64", "--whole"] => aarch64::run(root, true),
        ["bench", ..] => bench::run(root, &arguments[1..]),
        ["fuzz", ..] => fuzz::run(root, &arguments[1..]),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}\n{}", bench::USAGE);
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}\n{}", bench::USAGE);
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
