//! What a BLIP in training writes, measured: captions, answers, and which of two captions is right.

use tuwen::Picture;
use tuwen_data::dataset::{Dataset, Sample};
use tuwen_eval::metrics::caption::{CaptionItem, CaptionOptions, caption as score};
use tuwen_models::TokenIds;
use tuwen_models::bert::{BertDecoder, DecoderCache, EncoderStates};
use tuwen_nn::Pass;
use tuwen_tensor::{Tensor, no_grad};

use super::{Grounded, GroundedPreparation};
use crate::{Metrics, TrainError};

/// Most tokens of a caption or an answer that is written to be measured.
const LONGEST: usize = 20;
/// Images that are looked at together.
const BATCH: usize = 32;

/// The most likely token at each step, until all rows have ended: the rows without their start and end.
fn greedy(
    decoder: &BertDecoder,
    states: &EncoderStates,
    start: &TokenIds,
    preparation: &GroundedPreparation,
) -> Vec<Vec<u32>> {
    let end = preparation.tokenizer.end_id();
    let mut cache = DecoderCache::default();
    let mut rows = vec![Vec::new(); start.batch()];
    let mut ended = vec![false; rows.len()];
    let mut tokens = start.clone();
    let room = preparation.context_length.saturating_sub(start.length);
    for _ in 0..LONGEST.min(room) {
        let logits = decoder.step(&tokens, states, &mut cache);
        let vocabulary = logits.last_dim();
        let likeliest =
            |row: &[f32]| (0..vocabulary).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0) as u32;
        let next: Vec<u32> = logits.to_vec().chunks_exact(vocabulary).map(likeliest).collect();
        for ((row, ended), &token) in rows.iter_mut().zip(&mut ended).zip(&next) {
            *ended |= token == end;
            if !*ended {
                row.push(token);
            }
        }
        if ended.iter().all(|&ended| ended) {
            break;
        }
        tokens = TokenIds { ids: next, length: 1, attention_mask: None };
    }
    rows
}

/// Samples with their images as a network takes them, in batches.
fn batches<'a>(
    dataset: &'a dyn Dataset,
    preparation: &'a GroundedPreparation,
) -> impl Iterator<Item = (Vec<Sample>, Tensor)> + 'a {
    let transform = &preparation.processor.transform;
    let size = preparation.image_size;
    let read = move |index: usize| {
        let sample = dataset.get(index).ok()?;
        let picture = Picture::decode(&sample.image).ok()?;
        Some((sample, transform.pixel_values(&transform.apply(&picture))))
    };
    (0..dataset.len()).step_by(BATCH).map(move |first| {
        let (samples, pixels): (Vec<Sample>, Vec<Vec<f32>>) =
            (first..dataset.len().min(first + BATCH)).filter_map(read).unzip();
        let shape = [samples.len(), 3, size, size];
        (samples, Tensor::new(&pixels.concat(), &shape))
    })
}

/// CIDEr, BLEU and the rest of captions that are written greedily.
pub(super) fn captions(grounded: &Grounded, dataset: &dyn Dataset) -> Result<Option<Metrics>, TrainError> {
    let Some(captioner) = grounded.blip.captioner() else { return Ok(None) };
    let preparation = &grounded.preparation;
    let mut pairs: Vec<(String, Vec<String>)> = Vec::new();
    for (samples, pixel_values) in batches(dataset, preparation) {
        let states = no_grad(|| captioner.look(&pixel_values, &Pass::eval()));
        let rows = no_grad(|| {
            let start = preparation.caption_start(samples.len());
            greedy(captioner.text_decoder, &states, &start, preparation)
        });
        let captions = rows.iter().map(|row| preparation.tokenizer.decode(row));
        pairs.extend(captions.zip(samples).map(|(caption, sample)| (caption, sample.texts)));
    }
    pairs.retain(|(_, references)| !references.is_empty());
    let items =
        CaptionItem::corpus(pairs.iter().map(|(caption, references)| (caption.as_str(), &references[..])));
    Ok(Some(score(&items, &CaptionOptions::default()).corpus.metrics()))
}

/// The share of people who gave the answer that is written greedily, in percent.
pub(super) fn answers(grounded: &Grounded, dataset: &dyn Dataset) -> Result<Option<Metrics>, TrainError> {
    let Some(answerer) = grounded.blip.answerer() else { return Ok(None) };
    let preparation = &grounded.preparation;
    let tokenizer = &preparation.tokenizer;
    let (mut right, mut all) = (0.0, 0);
    for (samples, pixel_values) in batches(dataset, preparation) {
        let questions: Vec<_> = samples.into_iter().map(|sample| sample.questions).collect();
        let Some(asked) = preparation.asked(&questions)? else { continue };
        let rows = no_grad(|| {
            let states = grounded.blip.vision_model().tokens(&pixel_values, &Pass::eval());
            let images = super::batch::seen_by(&states, &asked.images);
            let read = EncoderStates::new(answerer.read(&asked.tokens, &images, &Pass::eval()));
            let read = answerer.text_decoder.project(&read.with_mask(asked.tokens.attention_mask.clone()));
            let start = preparation.answer_start(asked.images.len());
            greedy(answerer.text_decoder, &read, &start, preparation)
        });
        for (row, question) in rows.iter().zip(questions.iter().flatten()) {
            let answer = tokenizer.decode(row);
            let given = |(text, share): (&str, f32)| {
                if tokenizer.decode(&tokenizer.encode(text)) == answer { share } else { 0.0 }
            };
            right += question.weighted_answers().into_iter().map(given).sum::<f32>();
            all += 1;
        }
    }
    let accuracy = 100.0 * f64::from(right) / f64::from(all.max(1));
    Ok(Some(Metrics::from([("accuracy".to_owned(), accuracy), ("questions".to_owned(), f64::from(all))])))
}

/// How often a caption of an image and one of another image are told apart, in percent.
pub(super) fn matches(grounded: &Grounded, dataset: &dyn Dataset) -> Result<Option<Metrics>, TrainError> {
    let Some(matcher) = grounded.blip.matcher() else { return Ok(None) };
    let preparation = &grounded.preparation;
    let (mut right, mut all) = (0, 0);
    for (samples, pixel_values) in batches(dataset, preparation) {
        let texts: Vec<String> =
            samples.iter().map(|s| preparation.caption(s.texts.first().map_or("", String::as_str))).collect();
        let tokens = preparation.tokens(&texts)?.starting_with(grounded.config.grounded_start());
        let count = texts.len() as u32;
        // Beside each image its own caption and that of an image half the batch away.
        let rows: Vec<u32> =
            (0..count).flat_map(|image| [image, (image + count.div_ceil(2)) % count]).collect();
        let logits = no_grad(|| {
            let images = EncoderStates::new(matcher.encoders.image(&pixel_values, &Pass::eval()));
            matcher.itm_logits(&tokens.select(&rows), &images, &Pass::eval())
        });
        let says_yes =
            logits.to_vec().chunks_exact(2).map(|logits| logits[1] > logits[0]).collect::<Vec<_>>();
        right += says_yes.iter().enumerate().filter(|&(row, &yes)| yes == (row % 2 == 0)).count();
        all += says_yes.len();
    }
    let accuracy = 100.0 * right as f64 / all.max(1) as f64;
    Ok(Some(Metrics::from([("itm_accuracy".to_owned(), accuracy)])))
}
