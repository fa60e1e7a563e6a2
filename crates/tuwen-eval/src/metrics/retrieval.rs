//! Retrieval and zero-shot classification over embeddings.

use std::collections::HashSet;

use tuwen::Embeddings;

use super::{Metrics, classification, rank};

/// Percentage of ranks below `k`.
fn recall(ranks: &[usize], k: usize) -> f64 {
    100.0 * ranks.iter().filter(|&&rank| rank < k).count() as f64 / ranks.len().max(1) as f64
}

/// Recall at 1, 5 and 10 in both directions, in percent. A query is answered at k if at least one correct item is
/// among its k nearest; an image has several correct texts, a text has one image. Images without a text are no queries.
///
/// `image_of_text[t]` is the row of the image that text t describes. `mean_recall` is the mean of the six.
pub fn retrieval(images: &Embeddings, texts: &Embeddings, image_of_text: &[usize]) -> Metrics {
    retrieval_by_scores(&images.dot(texts), &texts.dot(images), image_of_text)
}

/// [`retrieval`] by any scores, such as those of a matching head for the candidates that similarity found, with all others
/// far below. `of_texts` has a row for each image and a column for each text, `of_images` the reverse: what is matched again
/// differs between the directions.
pub fn retrieval_by_scores(
    of_texts: &[Vec<f32>],
    of_images: &[Vec<f32>],
    image_of_text: &[usize],
) -> Metrics {
    let ranks = |scores: &[Vec<f32>], correct: &dyn Fn(usize, usize) -> bool| {
        let rank_of =
            |(query, scores): (usize, &Vec<f32>)| rank(scores, |candidate| correct(query, candidate));
        scores.iter().enumerate().map(rank_of).collect::<Vec<_>>()
    };
    let described: HashSet<usize> = image_of_text.iter().copied().collect();
    let mut text_ranks = ranks(of_texts, &|image, text| image_of_text[text] == image);
    let mut images = 0..;
    text_ranks.retain(|_| images.next().is_some_and(|image| described.contains(&image)));
    let image_ranks = ranks(of_images, &|text, image| image_of_text[text] == image);
    let directions = [("image_to_text", &text_ranks), ("text_to_image", &image_ranks)];
    let recalls = directions.into_iter().flat_map(|(direction, ranks)| {
        [1, 5, 10].map(|k| (format!("{direction}_recall_at_{k}"), recall(ranks, k)))
    });
    let mut metrics: Metrics = recalls.collect();
    let mean = metrics.values().sum::<f64>() / metrics.len() as f64;
    metrics.insert("mean_recall".into(), mean);
    metrics
}

/// [`classification`] of images against one embedding a class.
pub fn zero_shot(images: &Embeddings, classes: &Embeddings, labels: &[usize]) -> Metrics {
    classification(&images.dot(classes), labels)
}

/// The embedding of each class: the normalised mean of its prompts' directions, which lie class by class.
pub fn ensemble(prompts: Embeddings, templates: usize) -> Embeddings {
    prompts.normalized().grouped(templates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[[f32; 2]]) -> Embeddings {
        Embeddings::new(values.concat(), 2)
    }

    #[test]
    fn one_right_text_among_several_is_enough() {
        let images = rows(&[[1.0, 0.0], [0.0, 1.0]]);
        // Image 0 has a near text (0) and a far one (1); the texts of image 1 are both nearer to image 0.
        let texts = rows(&[[0.99, 0.1], [0.1, 0.99], [0.8, 0.6], [0.9, 0.3]]);
        let metrics = retrieval(&images, &texts, &[0, 0, 1, 1]);
        assert_eq!(metrics["image_to_text_recall_at_1"], 50.0);
        assert_eq!(metrics["image_to_text_recall_at_5"], 100.0);
        assert_eq!(metrics["text_to_image_recall_at_1"], 25.0);
        assert_eq!(metrics["text_to_image_recall_at_10"], 100.0);
        assert!((metrics["mean_recall"] - (50.0 + 100.0 + 100.0 + 25.0 + 100.0 + 100.0) / 6.0).abs() < 1e-9);
    }

    #[test]
    fn an_image_without_a_text_is_no_query() {
        let images = rows(&[[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]);
        let texts = rows(&[[0.99, 0.1], [0.1, 0.99]]);
        let metrics = retrieval(&images, &texts, &[0, 2]);
        assert_eq!(metrics["image_to_text_recall_at_1"], 100.0);
        assert_eq!(metrics["text_to_image_recall_at_1"], 100.0);
    }

    #[test]
    fn what_a_head_matches_again_decides() {
        // Similarity finds two of three texts for each image; the head prefers the right ones, where they were found.
        let of_texts = [vec![0.1, 0.9, -100.0], vec![-100.0, 0.9, 0.2]];
        let of_images = [vec![0.3, 0.1], vec![0.9, 0.2], vec![0.1, 0.3]];
        let metrics = retrieval_by_scores(&of_texts, &of_images, &[0, 0, 1]);
        assert_eq!(metrics["image_to_text_recall_at_1"], 50.0);
        assert_eq!(metrics["text_to_image_recall_at_1"], 100.0);
    }

    #[test]
    fn a_collapsed_model_guesses() {
        let collapsed = rows(&[[1.0, 0.0]; 20]);
        let labels: Vec<usize> = (0..20).collect();
        assert_eq!(zero_shot(&collapsed, &collapsed, &labels)["top1"], 5.0);
    }

    #[test]
    fn ensembles_average_directions_not_lengths() {
        let prompts = rows(&[[2.0, 0.0], [0.0, 10.0], [0.0, 1.0], [0.0, 3.0]]);
        let classes = ensemble(prompts, 2);
        let half = 0.5_f32.sqrt();
        let expected = [half, half, 0.0, 1.0];
        assert!(classes.values().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{classes:?}");
        let images = rows(&[[0.7, 0.7], [0.0, 1.0], [1.0, 0.0]]);
        let metrics = zero_shot(&images, &classes, &[0, 1, 1]);
        assert!((metrics["top1"] - 200.0 / 3.0).abs() < 1e-9);
        assert_eq!(metrics["top5"], 100.0);
    }
}
