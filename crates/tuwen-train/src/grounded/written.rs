//! What a BLIP in training writes, measured: captions, answers, and which of two captions is right.

use tuwen::Picture;
use tuwen_data::dataset::{Dataset, Sample};
use tuwen_eval::metrics::caption::{CaptionItem, CaptionOptions, caption as score};
use tuwen_models::TokenIds;
use tuwen_models::bert::{BertDecoder, BertSequences, EncoderStates};
use tuwen_models::generate::{GenerationConfig, Silent, Start, generate};
use tuwen_nn::Pass;
use tuwen_tensor::{Tensor, no_grad};

use super::{Asked, Grounded, GroundedPreparation};
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
    end: u32,
) -> Result<Vec<Vec<u32>>, TrainError> {
    let room = decoder.bert().max_length().saturating_sub(start.length);
    if room == 0 {
        return Ok(vec![Vec::new(); start.batch()]);
    }
    let starts = (0..start.batch()).map(|row| Start { prompt: start.row(row).to_vec(), stream: row as u64 });
    let config = GenerationConfig {
        max_new_tokens: Some(LONGEST.min(room)),
        eos_token_ids: vec![end],
        ..GenerationConfig::default()
    };
    let mut sequences = BertSequences::new(decoder, states);
    let texts = generate(&mut sequences, &starts.collect::<Vec<_>>(), &config, &mut Silent)?;
    let without_end = |ids: Vec<u32>| ids.into_iter().take_while(|&id| id != end).collect();
    Ok(texts.into_iter().flatten().map(|text| without_end(text.ids)).collect())
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
            greedy(captioner.text_decoder, &states, &start, preparation.tokenizer.end_id())
        })?;
        let captions = rows.iter().map(|row| preparation.tokenizer.decode(row));
        pairs.extend(captions.zip(samples).map(|(caption, sample)| (caption, sample.texts)));
    }
    pairs.retain(|(_, references)| !references.is_empty());
    let items =
        CaptionItem::corpus(pairs.iter().map(|(caption, references)| (caption.as_str(), &references[..])));
    Ok(Some(score(&items, &CaptionOptions::default()).corpus.metrics()))
}

/// The share of people who gave the answer that is written greedily, in percent; `read` gives the questions of a batch of
/// images as the decoder looks at them.
pub(super) fn answers(
    decoder: &BertDecoder,
    preparation: &GroundedPreparation,
    dataset: &dyn Dataset,
    read: &dyn Fn(&Tensor, &Asked) -> EncoderStates,
) -> Result<Metrics, TrainError> {
    let tokenizer = &preparation.tokenizer;
    let (mut right, mut all) = (0.0, 0);
    for (samples, pixel_values) in batches(dataset, preparation) {
        let questions: Vec<_> = samples.into_iter().map(|sample| sample.questions).collect();
        let Some(asked) = preparation.asked(&questions)? else { continue };
        let start = preparation.answer_start(asked.images.len());
        let rows = no_grad(|| greedy(decoder, &read(&pixel_values, &asked), &start, tokenizer.end_id()))?;
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
    Ok(Metrics::from([("accuracy".to_owned(), accuracy), ("questions".to_owned(), f64::from(all))]))
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

#[cfg(test)]
mod tests {
    use tuwen_models::bert::{BertConfig, CrossAttentionConfig, LAYER_NORM_EPS};
    use tuwen_nn::Scope;
    use tuwen_tensor::Activation;

    use super::*;

    fn likeliest(logits: &[f32]) -> u32 {
        (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("a vocabulary") as u32
    }

    /// The same without a cache or anything beside it.
    fn alone(decoder: &BertDecoder, states: &EncoderStates, start: &[u32], end: u32) -> Vec<u32> {
        let mut ids = start.to_vec();
        while ids.len() < decoder.bert().max_length().min(start.len() + LONGEST) {
            let tokens = TokenIds { ids: ids.clone(), length: ids.len(), attention_mask: None };
            let logits = decoder.forward(&tokens, states, &Pass::eval());
            let vocabulary = logits.last_dim();
            let next = likeliest(&logits.to_vec()[(ids.len() - 1) * vocabulary..]);
            if next == end {
                break;
            }
            ids.push(next);
        }
        ids.split_off(start.len())
    }

    #[test]
    fn texts_beside_others_are_as_each_alone() {
        let config = BertConfig {
            vocab_size: 12,
            hidden_size: 16,
            intermediate_size: 24,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            max_position_embeddings: 11,
            type_vocab_size: None,
            hidden_act: Activation::Gelu,
            layer_norm_eps: LAYER_NORM_EPS,
            cross_attention: Some(CrossAttentionConfig::everywhere(8)),
        };
        let scope = Scope::init(3).with_spread(20.0);
        let decoder = BertDecoder::new(&config, &scope.enter("text_decoder"));
        let count = 9;
        let values: Vec<f32> = (0..count * 5 * 8).map(|i| (i as f32 * 0.37).sin()).collect();
        let states = EncoderStates::new(Tensor::new(&values, &[count, 5, 8]));
        let start = TokenIds { ids: [1, 2].repeat(count), length: 2, attention_mask: None };
        let mut lengths = Vec::new();
        for end in 0..12 {
            let rows = no_grad(|| greedy(&decoder, &states, &start, end)).expect("written");
            for (row, text) in (0..).zip(&rows) {
                let expected = no_grad(|| alone(&decoder, &states.select(&[row]), start.row(0), end));
                assert_eq!(*text, expected, "image {row}, end {end}");
                lengths.push(text.len());
            }
        }
        lengths.sort_unstable();
        lengths.dedup();
        assert!(lengths.len() > 2 && lengths.last() == Some(&9), "some end and some do not: {lengths:?}");
        let full = TokenIds { ids: vec![1; 11], length: 11, attention_mask: None };
        assert_eq!(greedy(&decoder, &states.select(&[0]), &full, 0).expect("nothing"), [Vec::<u32>::new()]);
    }
}
