//! Properties of the network that no recorded result shows.

use tuwen_nn::{Parameters, Pass, Scope};
use tuwen_tensor::{Activation, Tensor};

use super::*;
use crate::generate::Sequences;

fn config(cross: CrossAttentionConfig) -> BertConfig {
    BertConfig {
        vocab_size: 50,
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 3,
        num_attention_heads: 3,
        max_position_embeddings: 12,
        type_vocab_size: None,
        hidden_act: Activation::Gelu,
        layer_norm_eps: LAYER_NORM_EPS,
        cross_attention: Some(cross),
    }
}

fn decoder(cross: CrossAttentionConfig) -> (BertDecoder, Parameters) {
    let scope = Scope::init(3);
    let decoder = BertDecoder::new(&config(cross), &scope.enter("text_decoder"));
    (decoder, scope.finish().expect("nothing is loaded"))
}

fn values(shape: &[usize], seed: usize) -> Tensor {
    let value = |i| ((i + seed * 1000) as f32 * 0.7).sin();
    Tensor::new(&(0..shape.iter().product()).map(value).collect::<Vec<_>>(), shape)
}

fn tokens(rows: usize, length: usize) -> TokenIds {
    let ids = (0..rows * length).map(|i| (i * 17 % 50) as u32).collect();
    TokenIds { ids, length, attention_mask: None }
}

/// Columns `range` of rows of tokens.
fn columns(tokens: &TokenIds, range: Range<usize>) -> TokenIds {
    let ids = (0..tokens.batch()).flat_map(|row| tokens.row(row)[range.clone()].to_vec()).collect();
    TokenIds { ids, length: range.len(), attention_mask: None }
}

fn assert_close(a: &Tensor, b: &Tensor, what: &str) {
    assert_eq!(a.shape(), b.shape(), "{what}");
    for (a, b) in a.to_vec().iter().zip(b.to_vec()) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{what}: {a} and {b}");
    }
}

fn last(logits: &Tensor) -> Tensor {
    let [rows, length, vocab] = logits.dims();
    ops::narrow(logits, 1, length - 1, 1).reshape(&[rows, vocab])
}

#[test]
fn cached_steps_of_beams_are_as_whole_texts() {
    let every_other = CrossAttentionConfig { every: 2, ..CrossAttentionConfig::everywhere(20) };
    for cross in [CrossAttentionConfig::everywhere(20), every_other] {
        let (decoder, _) = decoder(cross);
        let mask = Some((0..10).map(|i| i != 4).collect());
        let images = EncoderStates::new(values(&[2, 5, 20], 1)).with_mask(mask);
        let (beams, texts) = (3, tokens(6, 7));
        let repeated = images.select(&[0, 0, 0, 1, 1, 1]);
        let kept = decoder.project(&images);
        assert_eq!((kept.batch(), texts.batch()), (2, 2 * beams));
        let mut cache = DecoderCache::default();
        for range in [0..3, 3..4, 4..7] {
            let end = range.end;
            let step = decoder.step(&columns(&texts, range), &kept, &mut cache);
            let whole = decoder.forward(&columns(&texts, 0..end), &repeated, &Pass::eval());
            assert_close(&step, &last(&whole), &format!("{cross:?}, up to {end}"));
            assert_eq!(cache.len(), end);
        }
    }
}

#[test]
fn a_cache_goes_on_with_chosen_beams_and_images() {
    let (decoder, _) = decoder(CrossAttentionConfig::everywhere(20));
    let images = decoder.project(&EncoderStates::new(values(&[2, 5, 20], 1)));
    let texts = tokens(4, 3);
    let mut cache = DecoderCache::default();
    decoder.step(&texts, &images, &mut cache);
    cache.select(&[3, 3]);
    let next = TokenIds { ids: vec![7, 8], length: 1, attention_mask: None };
    let step = decoder.step(&next, &images.select(&[1]), &mut cache);
    let row = |id| texts.row(3).iter().copied().chain([id]).collect::<Vec<_>>();
    let whole = TokenIds { ids: [row(7), row(8)].concat(), length: 4, attention_mask: None };
    let logits = decoder.forward(&whole, &images.select(&[1]), &Pass::eval());
    assert_close(&step, &last(&logits), "after a selection");
}

#[test]
fn beams_share_the_keys_and_values_of_their_image_where_they_are() {
    let (decoder, _) = decoder(CrossAttentionConfig::everywhere(20));
    let mut sequences = BertSequences::new(&decoder, &EncoderStates::new(values(&[2, 5, 20], 1)));
    // Of each layer keys and values of the first image, then of the second.
    let places = |sequences: &BertSequences| -> Vec<Vec<*const f32>> {
        let place = |tensor: &Tensor| {
            let mut place = std::ptr::null();
            tensor.with_values(|values| place = values.as_ptr());
            place
        };
        (0..3).map(|layer| sequences.states.seen_by(layer).iter().map(place).collect()).collect()
    };
    let made = places(&sequences);
    assert!(made.iter().all(|layer| layer.len() == 4));
    sequences.step(&tokens(2, 2));
    for beams in [[0, 0, 0, 1, 1, 1], [2, 0, 0, 5, 4, 3]] {
        sequences.select(&beams);
        sequences.step(&tokens(6, 1));
        assert_eq!(places(&sequences), made);
    }
    sequences.select(&[3, 3, 5]);
    let of_second: Vec<_> = made.iter().map(|layer| layer[2..].to_vec()).collect();
    assert_eq!(places(&sequences), of_second);
}

#[test]
fn a_later_token_changes_no_earlier_state() {
    let (decoder, _) = decoder(CrossAttentionConfig::everywhere(20));
    let images = EncoderStates::new(values(&[2, 5, 20], 1));
    let (texts, mut others) = (tokens(2, 6), tokens(2, 6));
    others.ids[5] = 1;
    let before = |texts| ops::narrow(&decoder.forward(texts, &images, &Pass::eval()), 1, 0, 5);
    assert_eq!(before(&texts).to_vec(), before(&others).to_vec());
}

#[test]
fn padding_changes_no_state() {
    let (decoder, _) = decoder(CrossAttentionConfig::everywhere(20));
    let images = [EncoderStates::new(values(&[1, 5, 20], 1))];
    let short = tokens(1, 4);
    let ids = [short.ids.clone(), vec![0, 9]].concat();
    let mask = (0..6).map(|i| i < 4).collect();
    let padded = TokenIds { ids, length: 6, attention_mask: Some(mask) };
    let states = |texts| ops::narrow(&decoder.bert().forward(texts, &images, &Pass::eval()), 1, 0, 4);
    assert_close(&states(&short), &states(&padded), "padded");
}

#[test]
fn what_is_shared_is_there_once() {
    let scope = Scope::init(3);
    let config = config(CrossAttentionConfig::everywhere(20));
    let encoder = Bert::new("encoder", &config, &scope.enter("text_encoder"));
    let _decoder = BertDecoder::sharing(&config, &encoder, &scope.enter("text_decoder"));
    let parameters = scope.finish().expect("nothing is loaded");
    let own = parameters.iter().filter(|entry| entry.name.starts_with("text_decoder.bert."));
    let own: Vec<&str> = own.map(|entry| entry.name.as_str()).collect();
    assert_eq!(own.len(), 3 * 10, "{own:?}");
    assert!(own.iter().all(|name| name.contains(".attention.")), "{own:?}");
}

#[test]
fn gradients_reach_what_is_looked_at_and_checkpointing_changes_none() {
    let (decoder, parameters) = decoder(CrossAttentionConfig::everywhere(20));
    let run = |pass: Pass| {
        let images = values(&[2, 5, 20], 1).leaf();
        let y = decoder.bert().forward(&tokens(2, 4), &[EncoderStates::new(images.clone())], &pass);
        let mut gradients = ops::sum(&ops::mul(&y, &values(&[2, 4, 24], 5))).backward();
        let table =
            &parameters.get("text_decoder.bert.embeddings.word_embeddings.weight").expect("there").param;
        let table = gradients.get(&table.value()).expect("learns").to_vec();
        (gradients.take(&images).expect("a leaf").to_vec(), table)
    };
    let plain = run(Pass::train());
    assert!(plain.0.iter().any(|g| g.abs() > 1e-6));
    // A block that is computed again adds up its own gradients first: the last bits may differ.
    let again = run(Pass::train().with_checkpointing(true));
    for (plain, again) in [(&plain.0, &again.0), (&plain.1, &again.1)] {
        let values = |of: &[f32]| Tensor::new(of, &[of.len()]);
        assert_close(&values(again), &values(plain), "computed again");
    }
}
