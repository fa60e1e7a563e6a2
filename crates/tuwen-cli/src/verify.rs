//! Golden cases: what a reference program computed, recorded in a folder, against what this program computes.
//!
//! A case is checked from its files alone: what kind it is, which weights it has and how close is close enough are read
//! from them.

mod augmentation;
mod case;
mod exchange;
mod forward;
mod grounded;
mod preparation;
mod report;
mod tokenization;
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
    /// A BLIP or ALBEF: intermediates, heads and losses.
    Grounded,
    /// Images to numbers.
    Preparation,
    /// Operations on images.
    Augmentation,
    /// Texts to ids.
    Tokenization,
    /// A loss, its gradients and steps of the optimizer.
    Training,
    /// Losses of several processes that share a batch.
    Exchange,
}

/// A case of a kind that is not supported yet.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0}: cases of this kind are not supported yet (forward passes of CLIP, BLIP and ALBEF, training of CLIP, zero-shot classification, image preparation, RandAugment and tokenization are)"
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
        Some(Kind::Grounded) => grounded::run(&case),
        Some(Kind::ZeroShot) => zero_shot::run(&case),
        Some(Kind::Preparation) => preparation::run(&case),
        Some(Kind::Augmentation) => augmentation::run(&case),
        Some(Kind::Tokenization) => tokenization::run(&case),
        Some(Kind::Training) => training::run(&case),
        Some(Kind::Exchange) => exchange::run(&case),
        None => Err(Unsupported(case.name).into()),
    }
}

fn kind(case: &Case) -> Result<Option<Kind>> {
    type Fits = fn(&Case) -> Result<bool>;
    let without_network: [(Kind, Fits); 3] = [
        (Kind::Tokenization, tokenization::fits),
        (Kind::Preparation, preparation::fits),
        (Kind::Augmentation, augmentation::fits),
    ];
    let with_network: [(Kind, Fits); 5] = [
        (Kind::Grounded, grounded::fits),
        (Kind::Training, training::fits),
        (Kind::ZeroShot, zero_shot::fits),
        (Kind::Exchange, exchange::fits),
        (Kind::Forward, forward::fits),
    ];
    let has_tensors = case.has("inputs.safetensors") && case.has("expected.safetensors");
    let with_network = with_network.into_iter().filter(|_| has_tensors);
    for (kind, fits) in without_network.into_iter().chain(with_network) {
        if fits(case)? {
            return Ok(Some(kind));
        }
    }
    Ok(None)
}
