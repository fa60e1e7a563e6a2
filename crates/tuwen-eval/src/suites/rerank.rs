//! Retrieval in two steps: vectors find candidates, and a head that saw image and text ranks them.
//!
//! Reference: salesforce/BLIP `train_retrieval.py` (`evaluation`).

use std::collections::BTreeSet;

use tuwen::{Embeddings, Picture};
use tuwen_data::dataset::Dataset;

use super::retrieval::Captions;
use crate::encode::{Chunk, each_chunk};
use crate::{Encoded, Encoder, EvalError, Metrics, metrics};

/// The score of what is no candidate.
const NONE: f32 = -100.0;

/// Recall between the images of a data set and all of its captions, whose vectors are `texts`: for each query the `k` nearest
/// candidates are ranked anew by their cosine plus what `rescore` says of them, given some images and for each the numbers of
/// captions. Directions are ranked separately, and a pair is scored once for both. What the vectors alone give comes too,
/// under `itc_`. `done` is told how many more images were scored.
///
/// # Errors
/// No captions.
pub fn reranked_retrieval<E: Encoder>(
    encoder: &E,
    (dataset, encoded): (&dyn Dataset, &Encoded),
    texts: &Embeddings,
    k: usize,
    done: &mut dyn FnMut(usize),
    mut rescore: impl FnMut(&[E::Image], &[Vec<u32>]) -> Vec<Vec<f32>>,
) -> Result<Metrics, EvalError> {
    let Captions { image_of_text, .. } = Captions::of(encoded)?;
    let cosines = encoded.images.dot(texts);
    let of_images = transposed(&cosines, texts.len());
    let texts_of_image = nearest(&cosines, k);
    let images_of_text = nearest(&of_images, k);
    let pairs = union(&texts_of_image, &images_of_text);
    let mut scores: Vec<Vec<f32>> = vec![vec![NONE; texts.len()]; cosines.len()];
    let mut rows = scores.iter_mut().zip(&pairs).zip(&cosines);
    each_scored(encoder, dataset, &pairs, done, |images, wanted| {
        for (scored, ((scores, pairs), cosines)) in rescore(images, wanted).into_iter().zip(&mut rows) {
            for (&text, score) in pairs.iter().zip(scored) {
                scores[text as usize] = score + cosines[text as usize];
            }
        }
    })?;
    let ranked_texts = keep(&scores, &texts_of_image);
    let ranked_images = keep(&transposed(&scores, texts.len()), &images_of_text);
    let mut metrics = metrics::retrieval_by_scores(&ranked_texts, &ranked_images, &image_of_text);
    let by_vectors = metrics::retrieval_by_scores(&cosines, &of_images, &image_of_text);
    metrics.extend(by_vectors.into_iter().map(|(name, value)| (format!("itc_{name}"), value)));
    Ok(metrics)
}

/// Goes through the images of a data set, and gives `each` some of them with what stands in `pairs` for them.
///
/// # Errors
/// Those of reading the data set; a sample that cannot be read is left out, as it was when the rows were counted.
fn each_scored<E: Encoder>(
    encoder: &E,
    dataset: &dyn Dataset,
    pairs: &[Vec<u32>],
    done: &mut dyn FnMut(usize),
    mut each: impl FnMut(&[E::Image], &[Vec<u32>]),
) -> Result<(), EvalError> {
    let mut next = 0;
    let prepare = |picture: &Picture| encoder.prepare(picture);
    each_chunk(dataset, prepare, done, |Chunk { images, .. }| {
        let rows = next..(next + images.len()).min(pairs.len());
        next += images.len();
        each(&images[..rows.len()], &pairs[rows]);
        Ok(())
    })?;
    Ok(())
}

/// For each row the numbers of its `k` greatest scores.
fn nearest(scores: &[Vec<f32>], k: usize) -> Vec<Vec<u32>> {
    let of_row = |row: &Vec<f32>| {
        let mut order: Vec<u32> = (0..row.len() as u32).collect();
        order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
        order.truncate(k);
        order
    };
    scores.iter().map(of_row).collect()
}

/// For each image the texts that are its candidates or whose candidate it is.
fn union(texts_of_image: &[Vec<u32>], images_of_text: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let mut pairs: Vec<BTreeSet<u32>> =
        texts_of_image.iter().map(|texts| texts.iter().copied().collect()).collect();
    for (images, text) in images_of_text.iter().zip(0..) {
        for &image in images {
            pairs[image as usize].insert(text);
        }
    }
    pairs.into_iter().map(|texts| texts.into_iter().collect()).collect()
}

/// The scores of candidates; all others are far below.
fn keep(scores: &[Vec<f32>], candidates: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let of_row = |(row, candidates): (&Vec<f32>, &Vec<u32>)| {
        let mut kept = vec![NONE; row.len()];
        candidates.iter().for_each(|&candidate| kept[candidate as usize] = row[candidate as usize]);
        kept
    };
    scores.iter().zip(candidates).map(of_row).collect()
}

fn transposed(rows: &[Vec<f32>], columns: usize) -> Vec<Vec<f32>> {
    (0..columns).map(|column| rows.iter().map(|row| row[column]).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_kept_for_each_direction() {
        let cosines = vec![vec![0.9, 0.1, 0.5], vec![0.2, 0.3, 0.6]];
        let (texts, images) = (nearest(&cosines, 1), nearest(&transposed(&cosines, 3), 1));
        assert_eq!((&texts, &images), (&vec![vec![0], vec![2]], &vec![vec![0], vec![1], vec![1]]));
        assert_eq!(union(&texts, &images), [vec![0], vec![1, 2]]);
        assert_eq!(keep(&cosines, &texts), [[0.9, NONE, NONE], [NONE, NONE, 0.6]]);
        assert_eq!(nearest(&[vec![1.0, 1.0]], 5), [[0, 1]]);
    }
}
