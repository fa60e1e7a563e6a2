//! From a file to the input of a model: decoding, and everything after it.

use tuwen_data::image::{Picture, Transform};
use tuwen_kernels::{parallel_for, threads};

use super::clock::Clock;
use super::line::Timed;
use super::roofline::Work;
use super::stage::Stage;
use crate::failure::Failure;

/// Measures `decode` or `resize`, one image on each thread at once.
pub fn measure(
    stage: Stage,
    photograph: &[u8],
    transform: &Transform,
    clock: Clock,
) -> Result<Timed, Failure> {
    let picture = Picture::decode(photograph).map_err(Failure::usage)?;
    let pixels = 3 * (picture.width() * picture.height()) as u64;
    let batch = threads();
    let (seconds, bytes) = if stage == Stage::Decode {
        let run = || parallel_for(batch, |_| drop(Picture::decode(photograph)));
        (clock.median(run), photograph.len() as u64 + pixels)
    } else {
        let prepare = || transform.pixel_values(&transform.apply(&picture));
        let values = size_of_val(&prepare()[..]) as u64;
        (clock.median(|| parallel_for(batch, |_| drop(prepare()))), pixels + values)
    };
    let work = Work { flops: 0, bytes: bytes * batch as u64 };
    Ok(Timed { batch, seconds, work, peak_memory: None })
}
