//! Pictures that were made smaller in decoding, because what is wanted of them is smaller still.

/// A picture is reduced only where it stays so many times as large as it is resized to: the stretched kernel of resizing
/// then blurs away what reduction does to the finest detail. Measured in docs/LOG.md.
const MARGIN: usize = 3;

/// By how much a picture was made smaller, and from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reduced {
    /// Width and height of the file.
    pub full: (usize, usize),
    /// Pixels of the file, along each side, to one that there is; sides are rounded up.
    pub by: usize,
}

impl Reduced {
    /// Width and height in the pixels that there are. The last of a line may stand for less than a whole one.
    pub fn extent(self) -> (f64, f64) {
        let by = self.by as f64;
        (self.full.0 as f64 / by, self.full.1 as f64 / by)
    }

    /// The strongest reduction by a power of two up to 8 that resizing to the size `to` hides; 1 is none.
    pub fn by_for(full: (usize, usize), to: (usize, usize)) -> usize {
        let enough = |full: usize, to: usize, by: usize| full / by >= to.saturating_mul(MARGIN);
        let fits = |&by: &usize| enough(full.0, to.0, by) && enough(full.1, to.1, by);
        [8, 4, 2].into_iter().find(fits).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_is_kept_on_both_sides() {
        let by = |full| Reduced::by_for(full, (224, 300));
        assert_eq!(
            [(672, 900), (1343, 1800), (1344, 1800), (2688, 3599), (5376, 7200)].map(by),
            [1, 1, 2, 2, 8]
        );
        assert_eq!(Reduced::by_for((9000, 9000), (usize::MAX, 1)), 1);
        assert_eq!(Reduced { full: (101, 50), by: 4 }.extent(), (25.25, 12.5));
    }
}
