//! ROUGE-L (Lin 2004) as the COCO tools compute it.

use super::CaptionItem;

/// Recall counts this much more than precision.
const BETA: f64 = 1.2;

/// The F-measure of the longest common subsequence: the best precision and the best recall, each over all references.
pub fn rouge_l(item: &CaptionItem) -> f64 {
    let mut best = (0.0_f64, 0.0_f64);
    for reference in &item.references {
        let common = common_subsequence(&item.candidate, reference) as f64;
        best.0 = best.0.max(common / item.candidate.len().max(1) as f64);
        best.1 = best.1.max(common / reference.len().max(1) as f64);
    }
    let (precision, recall) = best;
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    (1.0 + BETA * BETA) * precision * recall / (recall + BETA * BETA * precision)
}

/// The length of the longest common subsequence.
fn common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for token in a {
        let mut diagonal = 0;
        for (column, other) in b.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = if token == other { diagonal + 1 } else { above.max(row[column]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_and_recall_may_come_from_two_references() {
        let item = CaptionItem::from_tokens("a b c d", &["a x b", "a b c d e f g h"]);
        // Precision 1 from the second, recall 2/3 from the first.
        let expected = (1.0 + BETA * BETA) * (2.0 / 3.0) / (2.0 / 3.0 + BETA * BETA);
        assert!((rouge_l(&item) - expected).abs() < 1e-12);
    }
}
