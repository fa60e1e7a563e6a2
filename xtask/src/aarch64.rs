//! `cargo xtask aarch64`: the kernels compiled for aarch64 and tested under an emulator.

use std::path::{Path, PathBuf};

use crate::command::{cargo, rustc};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
/// The emulator by the names that distributions give it.
const EMULATORS: [&str; 2] = ["qemu-aarch64-static", "qemu-aarch64"];
/// Where Debian keeps the C library for that linker.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// Checks that the whole workspace compiles for aarch64, and runs the tests of the kernels under qemu. Where something is
/// missing for that it says `skipped` and what; `whole` runs those tests too that the emulator takes minutes for.
///
/// # Errors
/// Something does not compile, or a test fails.
pub fn run(root: &Path, whole: bool) -> Result<(), String> {
    let emulator = EMULATORS.iter().find_map(|name| find(name));
    let missing = missing(find(LINKER).is_some(), emulator.is_some(), has_target(root)?);
    let (Some(emulator), true) = (emulator, missing.is_empty()) else {
        eprintln!("skipped: no {}", missing.join(", no "));
        return Ok(());
    };
    compile(root)?;
    let runner = format!("{} -L {LIBRARIES}", emulator.display());
    let test =
        [&["test", "--release", "--target", TARGET, "--package", "tuwen-kernels"], tests(whole)].concat();
    cargo(root, &test)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", runner)
        .run()
}

fn compile(root: &Path) -> Result<(), String> {
    let check = ["check", "--release", "--workspace", "--target", TARGET];
    cargo(root, &check).env("CC_aarch64_unknown_linux_gnu", LINKER).run()
}

/// Finite differences are what takes long; they are of the same code on every instruction set.
fn tests(whole: bool) -> &'static [&'static str] {
    const QUICK: [&str; 14] = [
        "--lib",
        "--test",
        "attention",
        "--test",
        "conv",
        "--test",
        "elements",
        "--test",
        "gemm",
        "--",
        "--skip",
        "gradients",
        "--skip",
        "same_threads",
    ];
    if whole { &[] } else { &QUICK }
}

fn missing(linker: bool, emulator: bool, target: bool) -> Vec<String> {
    let parts = [
        (target, format!("standard library for {TARGET} (rustup target add {TARGET})")),
        (linker, format!("{LINKER} (Debian: gcc-aarch64-linux-gnu)")),
        (emulator, format!("{} (Debian: qemu-user-static)", EMULATORS.join(" or "))),
    ];
    parts.into_iter().filter(|(there, _)| !there).map(|(_, name)| name).collect()
}

/// Whether the toolchain of the project has a standard library for the target.
fn has_target(root: &Path) -> Result<bool, String> {
    Ok(Path::new(rustc(root, &["--print", "target-libdir", "--target", TARGET]).output()?.trim()).is_dir())
}

/// A program on the search path.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert!(missing(true, true, true).is_empty());
        assert_eq!(missing(false, true, true), ["aarch64-linux-gnu-gcc (Debian: gcc-aarch64-linux-gnu)"]);
        assert_eq!(missing(false, false, false).len(), 3);
        assert_eq!(find("no such program"), None);
    }
}
