//! `cargo xtask golden`: the golden cases on every instruction set of this CPU.

use std::path::Path;

use crate::command::cargo;

/// The tests that compute golden cases, through the library and through the program. With the features of the whole
/// workspace, so that nothing is built again.
const TESTS: [&str; 10] = [
    "test",
    "--workspace",
    "--release",
    "--quiet",
    "--test",
    "golden",
    "--test",
    "adapter",
    "--test",
    "verify",
];

/// Runs the tests of golden cases once for each instruction set.
///
/// # Errors
/// One of them fails.
pub fn run(root: &Path) -> Result<(), String> {
    for isa in instruction_sets(root)? {
        eprintln!("== golden cases, {isa}");
        cargo(root, &TESTS).env("TUWEN_ISA", &isa).run().map_err(|error| format!("{isa}: {error}"))?;
    }
    Ok(())
}

/// The names of the instruction sets that the kernels can use on this CPU.
fn instruction_sets(root: &Path) -> Result<Vec<String>, String> {
    let list = ["run", "--release", "--quiet", "--package", "tuwen-kernels", "--example", "instruction_sets"];
    let names: Vec<String> = cargo(root, &list).output()?.lines().map(str::to_owned).collect();
    if names.is_empty() { Err("no instruction sets".to_owned()) } else { Ok(names) }
}
