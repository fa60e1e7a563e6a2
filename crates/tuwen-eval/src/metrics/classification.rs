//! Accuracy of naming classes. Scores have a row for each sample and a column for each class.

use super::{Metrics, average_precision, eleven_point_ap, rank, roc_auc};

/// The share of samples whose class is among the `k` of the best scores. Of equal scores the first class counts as the
/// better one.
pub fn top_k(scores: &[Vec<f32>], labels: &[usize], k: usize) -> f64 {
    let hits = ranks(scores, labels).filter(|&rank| rank < k).count();
    hits as f64 / labels.len().max(1) as f64
}

/// The mean over classes of the share of their samples that are named rightly, so that rare classes count as much as
/// frequent ones. Classes without a sample are left out.
pub fn mean_per_class(scores: &[Vec<f32>], labels: &[usize]) -> f64 {
    let classes = labels.iter().max().map_or(0, |last| last + 1);
    let mut counts = vec![(0_usize, 0_usize); classes];
    for (rank, &label) in ranks(scores, labels).zip(labels) {
        counts[label].0 += usize::from(rank == 0);
        counts[label].1 += 1;
    }
    mean(counts.iter().filter(|(_, all)| *all > 0).map(|&(right, all)| right as f64 / all as f64))
}

/// Everything that papers measure of a classifier, in percent: `top1`, `top5`,
/// `mean_per_class`, `mean_average_precision` and `eleven_point_map` (each class against all others), and `roc_auc`
/// where there are two classes (of the second one).
pub fn classification(scores: &[Vec<f32>], labels: &[usize]) -> Metrics {
    let classes = scores.first().map_or(0, Vec::len);
    let column = |class: usize| scores.iter().map(|row| row[class]).collect::<Vec<f32>>();
    let is = |class: usize| labels.iter().map(|&label| label == class).collect::<Vec<bool>>();
    let over_classes = |of_class: fn(&[f32], &[bool]) -> Option<f64>| {
        mean((0..classes).filter_map(|class| of_class(&column(class), &is(class))))
    };
    let mut metrics = vec![
        ("top1", top_k(scores, labels, 1)),
        ("top5", top_k(scores, labels, 5)),
        ("mean_per_class", mean_per_class(scores, labels)),
        ("mean_average_precision", over_classes(average_precision)),
        ("eleven_point_map", over_classes(eleven_point_ap)),
    ];
    if classes == 2 {
        // The difference orders samples as the probability does, and is exact where that is rounded to 1.
        let margin: Vec<f32> = scores.iter().map(|row| row[1] - row[0]).collect();
        metrics.extend(roc_auc(&margin, &is(1)).map(|area| ("roc_auc", area)));
    }
    metrics.into_iter().map(|(name, share)| (name.to_owned(), 100.0 * share)).collect()
}

/// Logarithms of the probabilities of logits. A classifier says nothing of how the logits of two samples compare, only of
/// how their probabilities do; these are rounded to 1 where the logarithms still differ.
pub fn log_softmax(mut logits: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    for row in &mut logits {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
        row.iter_mut().for_each(|logit| *logit = (f64::from(*logit - largest) - sum.ln()) as f32);
    }
    logits
}

fn ranks(scores: &[Vec<f32>], labels: &[usize]) -> impl Iterator<Item = usize> {
    scores.iter().zip(labels).map(|(scores, &label)| rank(scores, |class| class == label))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_classes_count_as_much_as_frequent_ones() {
        // Three samples of class 0, all right; one of class 2, wrong; none of class 1.
        let scores = [[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.4, 0.3, 0.3], [0.5, 0.1, 0.4]].map(Vec::from);
        let labels = [0, 0, 0, 2];
        assert_eq!(top_k(&scores, &labels, 1), 0.75);
        assert_eq!(top_k(&scores, &labels, 2), 1.0);
        assert_eq!(mean_per_class(&scores, &labels), 0.5);
    }

    #[test]
    fn metrics_that_make_no_sense_are_left_out() {
        let two = classification(&[vec![0.9, 0.1], vec![0.3, 0.7]], &[0, 1]);
        assert_eq!((two["roc_auc"], two["top1"], two["top5"]), (100.0, 100.0, 100.0));
        let six = classification(&[vec![0.0, 0.1, 0.2, 0.3, 0.4, 0.5]], &[1]);
        assert_eq!((six["top1"], six["top5"], six.get("roc_auc")), (0.0, 100.0, None));
        assert_eq!(classification(&[], &[])["top1"], 0.0);
    }
}
