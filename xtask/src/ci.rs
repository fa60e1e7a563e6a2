//! `cargo xtask ci`: everything that has to hold before a change goes in, cheapest first.

use std::path::Path;
use std::time::Instant;

use crate::command::cargo;
use crate::{aarch64, golden, tidy};

/// What cargo is asked for, before and after the tidy checks.
const BEFORE: [&[&str]; 2] =
    [&["fmt", "--check"], &["clippy", "--workspace", "--all-targets", "--release", "--", "-D", "warnings"]];
const AFTER: [&[&str]; 2] = [
    &["test", "--workspace", "--release"],
    &["test", "--release", "--package", "tuwen-data", "--features", "remote", "--test", "remote"],
];

/// Runs every step; an error says which one failed.
pub fn run(root: &Path) -> Result<(), String> {
    for arguments in BEFORE {
        step(&title(arguments), || cargo(root, arguments).run())?;
    }
    step("tidy", || tidy::run(root))?;
    for arguments in AFTER {
        step(&title(arguments), || cargo(root, arguments).run())?;
    }
    step("golden cases on every instruction set", || golden::run(root))?;
    step("kernels on aarch64", || aarch64::run(root, false))?;
    eprintln!("\nall steps passed");
    Ok(())
}

fn title(arguments: &[&str]) -> String {
    format!("cargo {}", arguments.join(" "))
}

/// One step, with its name before and its time after.
fn step(name: &str, run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    eprintln!("\n== {name}");
    let start = Instant::now();
    let result = run();
    let word = if result.is_ok() { "passed" } else { "failed" };
    eprintln!("== {name}: {word} after {:.1} s", start.elapsed().as_secs_f64());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_says_so() {
        assert_eq!(step("good", || Ok(())), Ok(()));
        assert_eq!(step("bad", || Err("why".to_owned())), Err("why".to_owned()));
    }
}
