//! Golden cases, for the tests of every crate: a `#[path]` brings this file to those of other crates.

use std::path::{Path, PathBuf};
use std::sync::Once;

/// The folder of a golden case, where the reference results are at hand. They are to be computed with the instruction
/// set that `TUWEN_ISA` names, as the program does.
pub fn case(name: &str) -> Option<PathBuf> {
    static FORCED: Once = Once::new();
    FORCED.call_once(force_isa);
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures")).join(name);
    if !path.is_dir() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    Some(path)
}

fn force_isa() {
    let Ok(name) = std::env::var("TUWEN_ISA") else { return };
    let isa = name.parse().unwrap_or_else(|error| panic!("TUWEN_ISA: {error}"));
    tuwen_kernels::force_isa(isa).unwrap_or_else(|error| panic!("TUWEN_ISA: {error}"));
}
