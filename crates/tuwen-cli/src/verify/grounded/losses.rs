//! Losses of the cases, in f64 from logits.

use tuwen_tensor::Tensor;

/// Cross entropies of the token after each, row by row, where `labels` `[batch, tokens]` are not negative; a part of the
/// probability is spread over all tokens.
pub fn next_token(logits: &Tensor, labels: &[i64], smoothing: f64) -> Vec<Vec<f64>> {
    let [rows, length, vocabulary] = logits.dims();
    let values = logits.to_vec();
    let loss = |row: usize, at: usize| {
        let label = usize::try_from(*labels.get(row * length + at + 1)?).ok()?;
        let logits = &values[(row * length + at) * vocabulary..][..vocabulary];
        (label < vocabulary).then(|| cross_entropy(logits, label, smoothing))
    };
    (0..rows).map(|row| (0..length.saturating_sub(1)).filter_map(|at| loss(row, at)).collect()).collect()
}

/// Cross entropy of a row of logits.
fn cross_entropy(logits: &[f32], label: usize, smoothing: f64) -> f64 {
    let logs = log_softmax(logits);
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    -(1.0 - smoothing) * logs[label] - smoothing * mean
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - greatest).exp()).sum();
    logits.iter().map(|logit| f64::from(logit - greatest) - sum.ln()).collect()
}

/// The mean over all rows.
pub fn mean(losses: &[Vec<f64>]) -> f64 {
    let all: Vec<f64> = losses.iter().flatten().copied().collect();
    all.iter().sum::<f64>() / all.len().max(1) as f64
}

/// Labels of texts that learn from every token but padding.
pub fn all_but_padding(ids: &[u32], pad: u32) -> Vec<i64> {
    ids.iter().map(|&id| if id == pad { -100 } else { i64::from(id) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_below_zero_do_not_count() {
        let logits = Tensor::new(&[0.0, 0.0, 3.0, 0.0, 0.0, 0.0], &[1, 3, 2]);
        let losses = next_token(&logits, &[0, 1, -100], 0.0);
        assert!(losses.len() == 1 && losses[0].len() == 1 && (losses[0][0] - 2f64.ln()).abs() < 1e-12);
        let smoothed = cross_entropy(&[3.0, 0.0], 0, 0.5);
        let logs = log_softmax(&[3.0, 0.0]);
        assert!((smoothed + 0.75 * logs[0] + 0.25 * logs[1]).abs() < 1e-12);
    }
}
