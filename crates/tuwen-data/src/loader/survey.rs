//! A look at some samples before training.

use super::Loader;
use crate::dataset::Sample;
use crate::image::decode_rgb;

/// What some samples say of all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Samples in an epoch.
    pub samples: usize,
    /// Bytes of the decoded image of a sample, or of both, in the mean; nothing if none could be decoded.
    pub image_bytes: Option<usize>,
    /// The samples that were looked at, without their image files.
    pub seen: Vec<Sample>,
}

impl Loader {
    /// Looks at the first samples of an epoch, which are random ones; those that cannot be read are left out.
    pub fn survey(&self, count: usize) -> Survey {
        let shared = &self.shared;
        let order = shared.order(0);
        let read = |&sample: &u32| {
            let source = shared.mixture.source_of(sample as usize);
            source.dataset.get(sample as usize - source.first).ok()
        };
        let samples: Vec<Sample> = order.iter().take(count).filter_map(read).collect();
        let bytes = |image: &[u8]| Some(decode_rgb(image).ok()?.data.len());
        let of_sample = |sample: &Sample| {
            let second = sample.second_image.as_deref().map_or(Some(0), bytes)?;
            Some(bytes(&sample.image)? + second)
        };
        let sizes: Vec<usize> = samples.iter().filter_map(of_sample).collect();
        let without_files = |sample| Sample { image: Vec::new(), second_image: None, ..sample };
        Survey {
            samples: order.len(),
            image_bytes: sizes.iter().sum::<usize>().checked_div(sizes.len()),
            seen: samples.into_iter().map(without_files).collect(),
        }
    }
}
