//! Squarified treemaps (Bruls, Huizing and van Wijk 2000): areas in proportion, as square as can be.

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Rect {
    /// What is left inside a margin and below a title.
    pub fn inside(self, margin: f64, title: f64) -> Self {
        Self {
            x: self.x + margin,
            y: self.y + title,
            width: (self.width - 2.0 * margin).max(0.0),
            height: (self.height - title - margin).max(0.0),
        }
    }

    fn shorter(self) -> f64 {
        self.width.min(self.height)
    }

    /// Cuts off a strip of this area along the shorter side.
    fn cut(self, area: f64) -> (Self, Self) {
        if self.width >= self.height {
            let width = if self.height > 0.0 { area / self.height } else { 0.0 };
            let rest = Self { x: self.x + width, width: (self.width - width).max(0.0), ..self };
            (Self { width, ..self }, rest)
        } else {
            let height = if self.width > 0.0 { area / self.width } else { 0.0 };
            let rest = Self { y: self.y + height, height: (self.height - height).max(0.0), ..self };
            (Self { height, ..self }, rest)
        }
    }
}

/// A rectangle for each weight, in the order of the weights; larger ones are placed first.
pub fn squarified(weights: &[f64], area: Rect) -> Vec<Rect> {
    let total: f64 = weights.iter().sum();
    let scale = if total > 0.0 { area.width * area.height / total } else { 0.0 };
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    let mut places = vec![Rect { width: 0.0, height: 0.0, ..area }; weights.len()];
    let mut free = area;
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let areas: Vec<f64> = rest.iter().map(|&i| weights[i] * scale).collect();
        let count = strip_len(&areas, free.shorter());
        let (strip, left) = free.cut(areas[..count].iter().sum());
        place(&rest[..count], &areas[..count], strip, free.width >= free.height, &mut places);
        (free, rest) = (left, &rest[count..]);
    }
    places
}

/// How many areas make the squarest strip of this length.
fn strip_len(areas: &[f64], length: f64) -> usize {
    let worst = |count: usize| {
        let sum: f64 = areas[..count].iter().sum();
        let (largest, smallest) = (areas[0], areas[count - 1]);
        let square = length * length;
        (square * largest / (sum * sum)).max(sum * sum / (square * smallest))
    };
    (1..areas.len()).find(|&count| worst(count + 1) > worst(count)).unwrap_or(areas.len())
}

/// Divides a strip among areas.
fn place(items: &[usize], areas: &[f64], strip: Rect, upright: bool, places: &mut [Rect]) {
    let total: f64 = areas.iter().sum();
    let mut before = 0.0;
    for (&item, area) in items.iter().zip(areas) {
        let share = if total > 0.0 { area / total } else { 0.0 };
        places[item] = if upright {
            Rect { y: strip.y + before * strip.height, height: share * strip.height, ..strip }
        } else {
            Rect { x: strip.x + before * strip.width, width: share * strip.width, ..strip }
        };
        before += share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_in_proportion_and_inside() {
        let area = Rect { x: 10.0, y: 20.0, width: 600.0, height: 400.0 };
        let weights = [6.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.0];
        let places = squarified(&weights, area);
        for (place, weight) in places.iter().zip(weights) {
            assert!((place.width * place.height - weight * 10_000.0).abs() < 1e-6, "{place:?}");
            assert!(place.x >= 10.0 && place.x + place.width <= 610.0 + 1e-9, "{place:?}");
            assert!(place.y >= 20.0 && place.y + place.height <= 420.0 + 1e-9, "{place:?}");
            let ratio = (place.width / place.height).max(place.height / place.width);
            assert!(ratio < 3.5, "{place:?}");
        }
    }

    #[test]
    fn nothing_has_no_place() {
        let area = Rect { x: 0.0, y: 0.0, width: 0.0, height: 5.0 };
        assert!(squarified(&[], area).is_empty());
        assert!(squarified(&[1.0, 0.0], area).iter().all(|place| place.width * place.height == 0.0));
    }
}
