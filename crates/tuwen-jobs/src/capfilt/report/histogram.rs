//! A histogram of scores, as SVG.

use std::fmt::Write as _;

use super::escaped;

/// Size of the area of the bars, and of the margin around it, in pixels.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 140.0;
const MARGIN: f64 = 18.0;

/// Scores in equal bins.
pub(super) struct Histogram<'b> {
    pub title: String,
    pub bins: &'b [u64],
    /// What the first bin begins with, and the last one ends with.
    pub range: [f32; 2],
    /// Scores below it are dropped.
    pub threshold: Option<f32>,
}

impl Histogram<'_> {
    /// Bars with the square roots of counts as heights, so that small ones are seen beside large ones.
    pub fn svg(&self) -> String {
        let largest = self.bins.iter().max().copied().unwrap_or(0).max(1) as f64;
        let step = WIDTH / self.bins.len() as f64;
        let (width, height) = (WIDTH + 2.0 * MARGIN, HEIGHT + 2.0 * MARGIN);
        let mut svg =
            format!("<figure><svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">");
        let [low, high] = self.range.map(f64::from);
        for (number, &count) in self.bins.iter().enumerate() {
            let tall = HEIGHT * (count as f64 / largest).sqrt();
            let (x, y) = (MARGIN + number as f64 * step, MARGIN + HEIGHT - tall);
            let middle = low + (high - low) * (number as f64 + 0.5) / self.bins.len() as f64;
            let dropped = self.threshold.is_some_and(|threshold| middle < f64::from(threshold));
            let colour = if dropped { "#c96a5a" } else { "#4a8a6c" };
            let _ = write!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" fill=\"{colour}\"><title>{count}</title></rect>",
                step - 1.0
            );
        }
        let bottom = MARGIN + HEIGHT;
        if let Some(threshold) = self.threshold {
            let x = MARGIN + WIDTH * (f64::from(threshold) - low) / (high - low);
            let _ =
                write!(svg, "<path d=\"M{x:.1} {MARGIN}V{bottom}\" stroke=\"#888\" stroke-dasharray=\"3\"/>");
            let _ = write!(
                svg,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{threshold}</text>",
                MARGIN - 5.0
            );
        }
        for (at, value) in [(0.0, low), (0.5, (low + high) / 2.0), (1.0, high)] {
            let (x, y) = (MARGIN + at * WIDTH, bottom + 13.0);
            let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{value}</text>");
        }
        let _ = write!(
            svg,
            "</svg><figcaption>{} (heights: square roots of counts)</figcaption></figure>",
            escaped(&self.title)
        );
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_below_the_threshold_stand_out() {
        let chart =
            |threshold| Histogram { title: "t".into(), bins: &[4, 0, 1, 16], range: [0.0, 1.0], threshold };
        let svg = chart(Some(0.5)).svg();
        assert_eq!((svg.matches("#c96a5a").count(), svg.matches("#4a8a6c").count()), (2, 2));
        assert!(svg.contains("height=\"140.0\"") && svg.contains("height=\"70.0\""), "{svg}");
        assert_eq!(chart(None).svg().matches("#c96a5a").count(), 0);
    }
}
