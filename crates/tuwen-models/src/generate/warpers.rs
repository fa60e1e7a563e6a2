//! Which tokens are drawn from: those that are not become minus infinity.

/// Keeps the `k` greatest scores and all that are equal to the last of them.
pub fn top_k(k: usize, scores: &mut [f32]) {
    if k >= scores.len() {
        return;
    }
    let mut sorted = scores.to_vec();
    let (_, &mut least, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    keep(scores, |score| score >= least);
}

/// Takes away from the small end what is no more than `1 - p` together.
pub fn top_p(p: f32, min_kept: usize, scores: &mut [f32]) {
    let probabilities = softmax(scores);
    let mut order = finite(scores);
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let mut mass = 0.0f32;
    let removable = order.len().saturating_sub(min_kept);
    for &token in &order[..removable] {
        mass += probabilities[token];
        if mass > 1.0 - p {
            break;
        }
        scores[token] = f32::NEG_INFINITY;
    }
}

/// Takes away what is less than `p` times as probable as the most probable.
pub fn min_p(p: f32, min_kept: usize, scores: &mut [f32]) {
    let probabilities = softmax(scores);
    let least = p * probabilities.iter().copied().fold(0.0, f32::max);
    let mut order = finite(scores);
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    for &token in order.iter().skip(min_kept).filter(|&&token| probabilities[token] < least) {
        scores[token] = f32::NEG_INFINITY;
    }
}

/// Keeps the tokens nearest to the expected surprise, until they are `p` together.
pub fn typical_p(p: f32, min_kept: usize, scores: &mut [f32]) {
    let probabilities = softmax(scores);
    let surprise = |token: usize| -probabilities[token].ln();
    let tokens = finite(scores);
    let expected: f32 =
        tokens.iter().map(|&token| probabilities[token] * surprise(token)).filter(|x| x.is_finite()).sum();
    let distance = |token: usize| (surprise(token) - expected).abs();
    let mut order = tokens;
    order.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
    let mut mass = 0.0f32;
    let fewer = order.iter().take_while(|&&token| {
        mass += probabilities[token];
        mass < p
    });
    let Some(&last) = order.get(fewer.count().min(order.len().saturating_sub(1))) else { return };
    let farthest = distance(last);
    for &token in order.iter().skip(min_kept).filter(|&&token| distance(token) > farthest) {
        scores[token] = f32::NEG_INFINITY;
    }
}

fn keep(scores: &mut [f32], kept: impl Fn(f32) -> bool) {
    scores.iter_mut().filter(|score| !kept(**score)).for_each(|score| *score = f32::NEG_INFINITY);
}

/// Tokens that are not barred.
fn finite(scores: &[f32]) -> Vec<usize> {
    (0..scores.len()).filter(|&token| scores[token] > f32::NEG_INFINITY).collect()
}

/// Probabilities of scores.
pub fn softmax(scores: &[f32]) -> Vec<f32> {
    let mut probabilities = vec![0.0; scores.len()];
    tuwen_kernels::softmax(scores, scores.len(), &mut probabilities);
    probabilities
}
