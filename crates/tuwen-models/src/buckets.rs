//! Which sequences run together: those of about one length, so that little of a pass is padding.

use tuwen_tensor::{Tensor, ops};

/// Features of sequences `[sequences, dim]`, in their order, where those of about one length run together: `forward` gives
/// the features `[group, dim]` of a group, by its numbers.
pub fn by_length(lengths: &[usize], pass_cost: usize, forward: impl FnMut(&Vec<usize>) -> Tensor) -> Tensor {
    let groups = buckets(lengths, pass_cost);
    let features: Vec<Tensor> = groups.iter().map(forward).collect();
    let mut place = vec![0; lengths.len()];
    groups.iter().flatten().zip(0..).for_each(|(&row, at)| place[row] = at);
    ops::gather_rows(&ops::concat(&features.iter().collect::<Vec<_>>(), 0), &place)
}

/// Tokens of a pass, about: what the layers of a pass exchange then stays in the caches.
const PASS: usize = 1024;

/// Groups of sequences, by their numbers, that waste least: a group runs at the length of its longest sequence, and
/// costs its tokens with the padding and `pass_cost` tokens more, for reading all weights once.
///
/// Within a group the sequences stay in their order.
pub fn buckets(lengths: &[usize], pass_cost: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&sequence| lengths[sequence]);
    let same_length: Vec<&[usize]> = order.chunk_by(|&a, &b| lengths[a] == lengths[b]).collect();
    let mut groups = Vec::new();
    let mut start = 0;
    for range in cheapest(&same_length, lengths, pass_cost) {
        let count: usize = same_length[range].iter().map(|sequences| sequences.len()).sum();
        let group = &order[start..start + count];
        start += count;
        let longest = group.last().map_or(0, |&last| lengths[last]);
        let passes = passes(count * longest);
        groups.extend((0..passes).map(|i| sorted(&group[count * i / passes..count * (i + 1) / passes])));
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// How often the layers run for so many tokens.
fn passes(tokens: usize) -> usize {
    tokens.div_ceil(PASS).max(1)
}

/// The cut of ascending lengths into ranges of which the sum of costs is least (by dynamic programming).
fn cheapest(same_length: &[&[usize]], lengths: &[usize], pass_cost: usize) -> Vec<std::ops::Range<usize>> {
    // For each end: the least cost up to it, and where its last range begins.
    let mut best = vec![(0, 0)];
    for end in 1..=same_length.len() {
        let longest = lengths[same_length[end - 1][0]];
        let mut count = 0;
        let costs = (0..end).rev().map(|start| {
            count += same_length[start].len();
            let tokens = count * longest;
            (best[start].0 + tokens + passes(tokens) * pass_cost, start)
        });
        best.push(costs.min().unwrap_or_default());
    }
    let mut ranges = Vec::new();
    let mut end = same_length.len();
    while end > 0 {
        let start = best[end].1;
        ranges.push(start..end);
        end = start;
    }
    ranges.reverse();
    ranges
}

fn sorted(sequences: &[usize]) -> Vec<usize> {
    let mut sequences = sequences.to_vec();
    sequences.sort_unstable();
    sequences
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens with padding of all groups.
    fn tokens(groups: &[Vec<usize>], lengths: &[usize]) -> usize {
        let longest = |group: &[usize]| group.iter().map(|&i| lengths[i]).max().unwrap_or(0);
        groups.iter().map(|group| group.len() * longest(group)).sum()
    }

    #[test]
    fn every_sequence_runs_once_and_little_is_padding() {
        let lengths: Vec<usize> = (0..500).map(|i: usize| 5 + i * i % 37 * (i % 3)).collect();
        let real: usize = lengths.iter().sum();
        for pass_cost in [0, 16, 100] {
            let groups = buckets(&lengths, pass_cost);
            assert_eq!(sorted(&groups.concat()), (0..500).collect::<Vec<_>>());
            assert!(groups.iter().all(|group| group.is_sorted()));
            assert!(tokens(&groups, &lengths) <= real + pass_cost * 79, "{pass_cost}");
            assert!(groups.iter().all(|group| tokens(std::slice::from_ref(group), &lengths) <= PASS));
        }
        assert_eq!(tokens(&buckets(&lengths, 0), &lengths), real);
    }

    #[test]
    fn a_pass_is_worth_so_much_padding() {
        assert_eq!(buckets(&[9, 3, 8], 16), [[0, 1, 2]]);
        assert_eq!(buckets(&[9, 3, 8], 4), [vec![1], vec![0, 2]]);
        assert_eq!(buckets(&[0, 0], 16), [[0, 1]]);
        assert!(buckets(&[], 16).is_empty());
        assert_eq!(buckets(&[3000], 16), [[0]]);
    }
}
