//! A look at some samples before training.

use super::Loader;
use crate::image::decode_rgb;

/// What some samples say of all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Samples in an epoch.
    pub samples: usize,
    /// Bytes of a decoded image, in the mean; nothing if none could be decoded.
    pub image_bytes: Option<usize>,
    /// All texts of the samples that were looked at.
    pub texts: Vec<String>,
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
        let samples: Vec<_> = order.iter().take(count).filter_map(read).collect();
        let bytes = |image: &[u8]| Some(decode_rgb(image).ok()?.data.len());
        let sizes: Vec<usize> = samples.iter().filter_map(|sample| bytes(&sample.image)).collect();
        Survey {
            samples: order.len(),
            image_bytes: sizes.iter().sum::<usize>().checked_div(sizes.len()),
            texts: samples.into_iter().flat_map(|sample| sample.texts).collect(),
        }
    }
}
