//! The instruction set that the kernels use: the fastest, unless the environment names another.

use std::env;

use anyhow::Context as _;
use tuwen_kernels::{Isa, force_isa};

use crate::failure::Failure;

/// For tests and comparisons: `portable`, `avx2`, `avx512` or `neon`.
const VARIABLE: &str = "TUWEN_ISA";

/// Makes every kernel use the instruction set that `TUWEN_ISA` names, if it is set.
///
/// # Errors
/// No instruction set has this name, or this CPU lacks it.
pub fn force() -> Result<(), Failure> {
    let Some(name) = env::var_os(VARIABLE) else { return Ok(()) };
    force_named(&name.to_string_lossy()).context(VARIABLE).map_err(Failure::usage)
}

fn force_named(name: &str) -> anyhow::Result<()> {
    Ok(force_isa(name.parse::<Isa>()?)?)
}
