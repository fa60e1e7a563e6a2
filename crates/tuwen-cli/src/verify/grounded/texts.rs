//! Cases of BLIP's decoders: captions and answers.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tuwen_models::bert::{BertDecoder, EncoderStates, RankRules};
use tuwen_models::blip::{Answerer, Blip, BlipConfig, BlipDialect};
use tuwen_models::generate::BeamRules;
use tuwen_nn::Pass;
use tuwen_tensor::Tensor;

use super::losses::{all_but_padding, mean, next_token};
use super::written::{Writer, nucleus};
use super::{Comparison, vision_names};

/// Of the original program; transformers has none.
pub const LABEL_SMOOTHING: f64 = 0.1;

fn smoothing(config: &BlipConfig) -> f64 {
    match config.dialect {
        BlipDialect::HuggingFace => 0.0,
        BlipDialect::Salesforce => LABEL_SMOOTHING,
    }
}

/// Captions: logits, the loss, and what is written.
pub fn captions(
    comparison: &mut Comparison<'_>,
    config: &BlipConfig,
    blip: &Blip,
    images: &Tensor,
) -> Result<()> {
    let Some(captioner) = blip.captioner() else { bail!("the network writes no captions") };
    let pass = Pass::traced();
    let tokens = comparison.tokens("input_ids", Some("attention_mask"))?;
    let logits = captioner.forward(images, &tokens, &pass);
    comparison.add_trace(pass, vision_names)?;
    comparison.add("logits", &logits)?;
    let labels = comparison.integers("labels")?;
    comparison.number("loss", mean(&next_token(&logits, &labels, smoothing(config))))?;
    if comparison.wants("logits_no_mask") {
        let unmasked = comparison.tokens("input_ids", None)?;
        comparison.add("logits_no_mask", &captioner.forward(images, &unmasked, &Pass::eval()))?;
    }
    let states = captioner.look(images, &Pass::eval());
    let writer = writer(config, captioner.text_decoder);
    let generation = comparison.case.meta["generation"].clone();
    match &generation {
        Value::Object(settings) => {
            let alone = vec![vec![config.tokens.dec]; images.shape()[0]];
            let prompts = prompts(comparison, config)?;
            for (prefix, prompts) in [("generate", alone), ("generate.prompt", prompts)] {
                for (name, settings) in settings {
                    let name = format!("{prefix}.{name}");
                    writer.compare(comparison, &states, &prompts, (&name, settings))?;
                }
            }
        }
        Value::Array(recorded) => {
            let mut prompt = Vec::new();
            for (number, recorded) in recorded.iter().enumerate() {
                let ids = recorded["prompt_ids"].as_array().context("no prompt_ids")?;
                prompt = ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect();
                let prompts = vec![prompt.clone(); images.shape()[0]];
                let name = format!("generate.{number}");
                writer.compare(comparison, &states, &prompts, (&name, &recorded["settings"]))?;
            }
            nucleus(comparison, config.tokens.sep, prompt.len())?;
        }
        _ => {}
    }
    Ok(())
}

fn writer<'m>(config: &BlipConfig, decoder: &'m BertDecoder) -> Writer<'m> {
    let beam_rules = match config.dialect {
        BlipDialect::HuggingFace => BeamRules::Transformers5,
        BlipDialect::Salesforce => BeamRules::Transformers4,
    };
    Writer { decoder, beam_rules, end: config.tokens.sep, pad: config.tokens.pad }
}

/// Recorded beginnings as transformers takes them: the first id becomes `[DEC]`, the last goes.
fn prompts(comparison: &Comparison<'_>, config: &BlipConfig) -> Result<Vec<Vec<u32>>> {
    let tokens = comparison.tokens("prompt_ids", None)?.starting_with(config.tokens.dec);
    let kept = tokens.length.saturating_sub(1);
    Ok((0..tokens.batch()).map(|row| tokens.row(row)[..kept].to_vec()).collect())
}

/// Answers: states of questions, logits, losses, a ranked list, and what is written.
pub fn answers(
    comparison: &mut Comparison<'_>,
    config: &BlipConfig,
    blip: &Blip,
    images: &Tensor,
) -> Result<()> {
    let Some(answerer) = blip.answerer() else { bail!("the network answers nothing") };
    match config.dialect {
        BlipDialect::HuggingFace => answers_of_hugging_face(comparison, config, &answerer, images),
        BlipDialect::Salesforce => answers_of_salesforce(comparison, config, &answerer, images),
    }
}

fn answers_of_hugging_face(
    comparison: &mut Comparison<'_>,
    config: &BlipConfig,
    answerer: &Answerer<'_>,
    images: &Tensor,
) -> Result<()> {
    let pass = Pass::traced();
    let questions = comparison.tokens("input_ids", Some("attention_mask"))?;
    // transformers 5 loses the mask of the question on its way to the decoder: padding is looked at.
    let asked = answerer.ask(images, &questions, &pass);
    let logits = answerer.text_decoder.forward(&comparison.tokens("labels", None)?, &asked, &pass);
    // What was recorded of the image's states is the class token, normalised once more.
    comparison.add_trace(pass, |name| match name {
        "vision.tokens" => "vision.tokens of all".to_owned(),
        name => vision_names(name),
    })?;
    let states = answerer.vision_model.tokens(images, &Pass::eval());
    comparison.add("vision.tokens", &answerer.vision_model.pooled_again(&states))?;
    comparison.add("logits", &logits)?;
    let labels = comparison.integers("labels")?;
    comparison.number("loss", mean(&next_token(&logits, &labels, 0.0)))?;
    let masked = comparison.tokens("labels", Some("labels_attention_mask"))?;
    let logits = answerer.text_decoder.forward(&masked, &asked, &Pass::eval());
    let labels = all_but_padding(&masked.ids, config.tokens.pad);
    comparison.number("loss_labels_masked", mean(&next_token(&logits, &labels, 0.0)))?;

    let writer = writer(config, answerer.text_decoder);
    let generation = comparison.case.meta["generation"].clone();
    let start = vec![vec![config.tokens.dec]; questions.batch()];
    let encoded = questions.clone().starting_with(config.tokens.enc);
    for (questions, prefix) in [(questions, "generate"), (encoded, "generate.enc")] {
        let asked = answerer.ask(images, &questions, &Pass::eval());
        for (name, settings) in generation.as_object().into_iter().flatten() {
            writer.compare(comparison, &asked, &start, (&format!("{prefix}.{name}"), settings))?;
        }
    }
    Ok(())
}

fn answers_of_salesforce(
    comparison: &mut Comparison<'_>,
    config: &BlipConfig,
    answerer: &Answerer<'_>,
    images: &Tensor,
) -> Result<()> {
    let pass = Pass::traced();
    let questions = comparison.tokens("question_ids", Some("question_mask"))?;
    let states = EncoderStates::new(answerer.vision_model.tokens(images, &pass));
    let read = answerer.read(&questions, &states, &pass);
    comparison.add_trace(pass, |name| vision_names(&name.replace("encoder.", "question.")))?;
    comparison.add("question_states", &read)?;
    let asked = answerer.ask_masked(images, &questions, &Pass::eval());
    ranks(comparison, answerer, &asked)?;

    let counts = comparison.integers("train_n")?;
    let of_answer: Vec<u32> =
        counts.iter().zip(0..).flat_map(|(&count, question)| vec![question; count.max(0) as usize]).collect();
    let answers = comparison.tokens("train_answer_ids", Some("train_answer_mask"))?;
    let logits = answerer.text_decoder.forward(&answers, &asked.select(&of_answer), &Pass::eval());
    let losses = next_token(&logits, &all_but_padding(&answers.ids, config.tokens.pad), smoothing(config));
    let weights = comparison.tensor("train_weights")?.to_vec();
    let weighted = losses.iter().zip(weights).map(|(of, weight)| of.iter().sum::<f64>() * f64::from(weight));
    comparison.number("train.loss", weighted.sum::<f64>() / counts.len().max(1) as f64)?;

    let asked = answerer.ask(images, &questions, &Pass::eval());
    let start = vec![vec![config.tokens.dec]; questions.batch()];
    let settings = comparison.case.meta["generation"].clone();
    writer(config, answerer.text_decoder).compare(comparison, &asked, &start, ("generate", &settings))
}

/// Answers of a list. Candidates with one first token are in an order of their own, so that scores are looked up.
fn ranks(comparison: &mut Comparison<'_>, answerer: &Answerer<'_>, asked: &EncoderStates) -> Result<()> {
    let candidates = comparison.tokens("candidate_ids", Some("candidate_mask"))?;
    let probabilities = answerer.text_decoder.first_token_probabilities(asked, &candidates);
    let shape = [asked.batch(), candidates.batch()];
    comparison.add("rank.first_token_probability", &Tensor::new(&probabilities, &shape))?;
    let recorded = comparison.expected.integers("rank.topk_ids")?;
    comparison.expected.leave_out(&["rank.topk_ids"]);
    let limit = recorded.len() / asked.batch().max(1);
    let rankings = answerer.text_decoder.rank(asked, &candidates, limit, RankRules::Blip);
    let score = |(row, &candidate): (usize, &i64)| {
        let ranking = &rankings[row / limit.max(1)];
        let at = ranking.candidates.iter().position(|&ours| ours as i64 == candidate);
        at.map_or(f32::NAN, |at| ranking.scores[at])
    };
    let scores: Vec<f32> = recorded.iter().enumerate().map(score).collect();
    comparison.add("rank.scores", &Tensor::new(&scores, &[asked.batch(), limit]))?;
    let best: Vec<f32> =
        rankings.iter().map(|ranking| ranking.best().map_or(-1.0, |best| best as f32)).collect();
    comparison.add("rank.best", &Tensor::new(&best, &[best.len()]))
}
