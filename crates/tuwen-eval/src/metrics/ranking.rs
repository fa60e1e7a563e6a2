//! Quality of a ranking by score: area under the ROC curve, and average precision in its two definitions.

/// Samples with equal scores, best scores first: `(positives, negatives)` of each group. No number is worst.
fn groups(scores: &[f32], positive: &[bool]) -> Vec<(usize, usize)> {
    let worst_last = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| worst_last(scores[b]).total_cmp(&worst_last(scores[a])));
    let equal = order.chunk_by(|&a, &b| worst_last(scores[a]) == worst_last(scores[b]));
    let count = |group: &[usize]| {
        let positives = group.iter().filter(|&&sample| positive[sample]).count();
        (positives, group.len() - positives)
    };
    equal.map(count).collect()
}

/// The probability that a positive sample has a higher score than a negative one, equal scores counting half (the area
/// under the ROC curve). `None` where one of the two kinds is missing.
pub fn roc_auc(scores: &[f32], positive: &[bool]) -> Option<f64> {
    let groups = groups(scores, positive);
    let (positives, negatives) = groups.iter().fold((0, 0), |(p, n), group| (p + group.0, n + group.1));
    if positives == 0 || negatives == 0 {
        return None;
    }
    let mut above = 0;
    let mut area = 0.0;
    for (p, n) in groups {
        area += n as f64 * (above as f64 + p as f64 / 2.0);
        above += p;
    }
    Some(area / (positives as f64 * negatives as f64))
}

/// `(recall, precision)` at each threshold, highest first; `None` without a positive sample.
fn curve(scores: &[f32], positive: &[bool]) -> Option<Vec<(f64, f64)>> {
    let total = positive.iter().filter(|&&positive| positive).count();
    let point = |(found, taken): &mut (usize, usize), (p, n): (usize, usize)| {
        (*found, *taken) = (*found + p, *taken + p + n);
        Some((*found as f64 / total as f64, *found as f64 / *taken as f64))
    };
    (total > 0).then(|| groups(scores, positive).into_iter().scan((0, 0), point).collect())
}

/// The sum of precisions, each weighted by the recall that it adds (scikit-learn's definition, no interpolation).
/// `None` without a positive sample.
pub fn average_precision(scores: &[f32], positive: &[bool]) -> Option<f64> {
    let mut last = 0.0;
    let add = |sum, (recall, precision): (f64, f64)| {
        let gained = recall - last;
        last = recall;
        sum + gained * precision
    };
    Some(curve(scores, positive)?.into_iter().fold(0.0, add))
}

/// The mean over recalls 0, 0.1, ... 1 of the best precision at that recall or above: the metric of Pascal VOC 2007.
/// `None` without a positive sample.
pub fn eleven_point_ap(scores: &[f32], positive: &[bool]) -> Option<f64> {
    let curve = curve(scores, positive)?;
    let best_from = |least: f64| {
        // A recall of 0.3 is reached by 3 of 10 whatever the rounding of the two.
        let reached = curve.iter().filter(|(recall, _)| *recall >= least - 1e-9);
        reached.map(|&(_, precision)| precision).fold(0.0, f64::max)
    };
    Some((0..=10).map(|tenth| best_from(f64::from(tenth) / 10.0)).sum::<f64>() / 11.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extremes_and_equal_scores() {
        let positive = [true, true, false, false];
        for (scores, area) in [([4.0, 3.0, 2.0, 1.0], 1.0), ([1.0, 2.0, 3.0, 4.0], 0.0), ([1.0; 4], 0.5)] {
            assert_eq!(roc_auc(&scores, &positive), Some(area));
        }
        assert_eq!(roc_auc(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(average_precision(&[1.0, 2.0], &[false, false]), None);
        assert_eq!(average_precision(&[1.0; 4], &positive), Some(0.5));
        assert_eq!(roc_auc(&[f32::NAN, 0.0], &[true, false]), Some(0.0));
    }

    #[test]
    fn precision_is_weighted_by_the_recall_it_adds() {
        // Right at ranks 1 and 3.
        let (scores, positive) = ([0.9, 0.8, 0.7, 0.6], [true, false, true, false]);
        let average = average_precision(&scores, &positive).expect("positives");
        assert!((average - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-12);
        // Precision 1 up to recall 0.5 (six of the eleven), 2/3 beyond.
        let eleven = eleven_point_ap(&scores, &positive).expect("positives");
        assert!((eleven - (6.0 + 5.0 * 2.0 / 3.0) / 11.0).abs() < 1e-12);
    }
}
