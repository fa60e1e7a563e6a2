//! The limit of the machine, and how long work takes there at least.

use serde::Serialize;
use tuwen_kernels::Precision;
use tuwen_kernels::limits::{peak, read_bandwidth};

/// What a run does at least.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Operations of products, convolutions and attention.
    pub flops: u64,
    /// Bytes that have to be read or written: inputs, weights and results, each once.
    pub bytes: u64,
}

/// Which of the two limits holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Operations.
    Arithmetic,
    /// Bytes.
    Memory,
}

/// The limits of this machine with the threads in use.
pub struct Roofline {
    /// Operations a second in each precision.
    peaks: Vec<(Precision, f64)>,
    /// Sizes, smallest first, and bytes a second that are read from them; never more from a larger one.
    bandwidths: Vec<(u64, f64)>,
}

impl Roofline {
    /// Measures for these precisions, in less than a second.
    pub fn measure(precisions: &[Precision]) -> Self {
        let peaks = precisions.iter().map(|&precision| (precision, peak(precision).flops)).collect();
        let sizes = [1_u64 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20];
        let mut bandwidths: Vec<_> = sizes.map(|bytes| (bytes, read_bandwidth(bytes as usize))).into();
        for i in (1..bandwidths.len()).rev() {
            bandwidths[i - 1].1 = bandwidths[i].1.max(bandwidths[i - 1].1);
        }
        Self { peaks, bandwidths }
    }

    /// Seconds that work takes at least, and why.
    pub fn limit(&self, work: Work, precision: Precision) -> (f64, Bound) {
        let peak = self.peaks.iter().find(|(known, _)| *known == precision);
        let arithmetic = peak.map_or(0.0, |(_, peak)| work.flops as f64 / peak);
        let memory = work.bytes as f64 / self.bandwidth(work.bytes);
        if arithmetic >= memory { (arithmetic, Bound::Arithmetic) } else { (memory, Bound::Memory) }
    }

    /// Bytes a second that are read from a working set of so many: those of the next smaller one that was measured.
    fn bandwidth(&self, bytes: u64) -> f64 {
        let fits = self.bandwidths.iter().rev().find(|(size, _)| *size <= bytes);
        fits.or(self.bandwidths.first()).map_or(f64::INFINITY, |(_, bandwidth)| *bandwidth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_time_is_the_limit() {
        let roofline = Roofline {
            peaks: vec![(Precision::F32, 100.0), (Precision::Int8, 1000.0)],
            bandwidths: vec![(10, 20.0), (1000, 10.0)],
        };
        let limit = |flops, bytes, precision| roofline.limit(Work { flops, bytes }, precision);
        assert_eq!(limit(500, 20, Precision::F32), (5.0, Bound::Arithmetic));
        assert_eq!(limit(500, 20, Precision::Int8), (1.0, Bound::Memory));
        assert_eq!(limit(0, 5000, Precision::F32), (500.0, Bound::Memory));
        assert_eq!(limit(0, 5, Precision::F32), (0.25, Bound::Memory), "as fast as the smallest");
    }
}
