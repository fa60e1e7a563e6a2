//! Golden cases: what a reference program computed, recorded in a folder, against what this program computes.
//!
//! A case is checked from its files alone: what kind it is, which weights it has and how close is close enough are read
//! from them.

mod case;
mod forward;
mod report;
mod training;
mod zero_shot;

use std::path::Path;

use anyhow::Result;

pub use report::{Report, Row};

use case::Case;

/// The kinds of cases that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A network's intermediates, features and logits.
    Forward,
    /// A classifier made of prompts.
    ZeroShot,
    /// A loss, its gradients and steps of the optimizer.
    Training,
}

/// A case of a kind that is not supported yet.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0}: cases of this kind are not supported yet (CLIP forward passes, training, zero-shot classification, image preparation and tokenization are)"
)]
pub struct Unsupported(String);

/// Computes a case and compares.
///
/// # Errors
/// A folder that is no case, a kind that is not supported, files that cannot be read, a model that does not load.
pub fn verify(folder: &Path) -> Result<Report> {
    let case = Case::open(folder)?;
    match kind(&case)? {
        Some(Kind::Forward) => forward::run(&case),
        Some(Kind::ZeroShot) => zero_shot::run(&case),
        Some(Kind::Training) => training::run(&case),
        None => Err(Unsupported(case.name).into()),
    }
}

fn kind(case: &Case) -> Result<Option<Kind>> {
    if case.has("inputs.safetensors") && case.has("expected.safetensors") {
        if training::fits(case)? {
            return Ok(Some(Kind::Training));
        }
        if zero_shot::fits(case)? {
            return Ok(Some(Kind::ZeroShot));
        }
        if forward::fits(case)? {
            return Ok(Some(Kind::Forward));
        }
    }
    Ok(None)
}
