//! Image files through a model: read and prepared on other threads, computed in batches, handed on in order.

use std::path::Path;
use std::thread;

use tuwen::{Embedder, Embeddings, Picture, Pixels};

use crate::ahead::ahead;
use crate::console::Console;
use crate::failure::{Failure, one_line};
use crate::images::Input;

/// Prepared images that each thread may be ahead of the network.
const DEPTH: usize = 4;

/// Gives `each` the vectors of every batch with the names of its images, and returns how many inputs failed; those are
/// named on stderr and passed over.
pub fn embed_images(
    inputs: &[Input],
    embedder: Embedder<'_>,
    console: &Console,
    mut each: impl FnMut(&[&str], &Embeddings) -> Result<(), Failure>,
) -> Result<usize, Failure> {
    if inputs.is_empty() {
        return Ok(0);
    }
    let mut progress = console.progress(inputs.len() as u64, "images");
    let mut failed = 0;
    let prepare = |input: &Input| prepare(input, embedder);
    thread::scope(|scope| {
        let mut prepared = inputs.iter().zip(ahead(scope, inputs, tuwen_kernels::threads(), DEPTH, prepare));
        loop {
            let (mut names, mut pixels) = (Vec::new(), Vec::new());
            let mut seen = 0;
            for (input, result) in prepared.by_ref() {
                seen += 1;
                match result {
                    Ok(image) => {
                        names.push(input.name.as_str());
                        pixels.push(image);
                    }
                    Err(error) => {
                        failed += 1;
                        console.warn(named(&input.name, &error));
                    }
                }
                if pixels.len() == embedder.batch_size() {
                    break;
                }
            }
            if seen == 0 {
                return Ok(failed);
            }
            if !pixels.is_empty() {
                each(&names, &embedder.pixels(&pixels))?;
            }
            progress.advance(seen);
        }
    })
}

fn prepare(input: &Input, embedder: Embedder<'_>) -> anyhow::Result<Pixels> {
    let path: &Path = input.path.as_deref().map_err(|error| anyhow::anyhow!("{}", one_line(error)))?;
    Ok(embedder.prepare(&Picture::open(path)?))
}

/// The reason, with the name before it where the reason does not begin with it.
fn named(name: &str, error: &anyhow::Error) -> String {
    let reason = one_line(error);
    let reason =
        reason.strip_prefix(name).map_or(reason.as_str(), |rest| rest.trim_start_matches([':', ' ']));
    format!("{name}: {reason}")
}
