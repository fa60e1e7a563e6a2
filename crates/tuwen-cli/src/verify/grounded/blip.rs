//! Cases of BLIP, by the task that their checkpoint is made for.

use anyhow::{Result, bail};
use tuwen::{GroundedConfig, GroundedFiles, GroundedNetwork};
use tuwen_models::TokenIds;
use tuwen_models::bert::{EncoderStates, RankRules};
use tuwen_models::blip::{Answerer, Blip, BlipConfig, BlipDialect, BlipTask, Matcher};
use tuwen_nn::Pass;
use tuwen_tensor::{Targets, Tensor, ops};

use super::losses::{all_but_padding, mean, next_token};
use super::{Comparison, open_model, vision_names};

/// Of the original program; transformers has none.
const LABEL_SMOOTHING: f64 = 0.1;

/// Computes what a case records, for the network of its checkpoint.
pub fn run(comparison: &mut Comparison<'_>, files: &GroundedFiles, blip: &Blip) -> Result<()> {
    let GroundedConfig::Blip(config) = &files.config else { bail!("a BLIP has the configuration of one") };
    let images = comparison.images(config.vision.image_size)?;
    match config.task {
        BlipTask::Caption => captions(comparison, config, blip, &images),
        BlipTask::Vqa => answers(comparison, config, blip, &images),
        BlipTask::Retrieval if comparison.has("neg_image_for_text") => {
            training(comparison, config, blip, &images)
        }
        BlipTask::Retrieval => matches(comparison, config, blip, &images),
        BlipTask::Features => features(comparison, config, blip, &images),
        BlipTask::Nlvr => two_images(comparison, blip, &images),
        BlipTask::Pretrain => {
            training(comparison, config, blip, &images)?;
            language_model(comparison, config, blip, &images)
        }
        BlipTask::Joint => bail!("no case is known of transformers' BlipModel"),
    }
}

fn smoothing(config: &BlipConfig) -> f64 {
    match config.dialect {
        BlipDialect::HuggingFace => 0.0,
        BlipDialect::Salesforce => LABEL_SMOOTHING,
    }
}

fn captions(
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
    Ok(())
}

fn answers(comparison: &mut Comparison<'_>, config: &BlipConfig, blip: &Blip, images: &Tensor) -> Result<()> {
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
    comparison.number("loss_labels_masked", mean(&next_token(&logits, &labels, 0.0)))
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
    comparison.number("train.loss", weighted.sum::<f64>() / counts.len().max(1) as f64)
}

/// Answers of a list. Candidates with one first token are in an order of their own, so that scores are looked up.
fn ranks(comparison: &mut Comparison<'_>, answerer: &Answerer<'_>, asked: &EncoderStates) -> Result<()> {
    let candidates = comparison.tokens("candidate_ids", Some("candidate_mask"))?;
    let probabilities = answerer.text_decoder.first_token_probabilities(asked, &candidates);
    let shape = [asked.batch(), candidates.batch()];
    comparison.add("rank.first_token_probability", &Tensor::new(&probabilities, &shape))?;
    let recorded = comparison.expected.integers("rank.topk_ids")?;
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

fn matches(comparison: &mut Comparison<'_>, config: &BlipConfig, blip: &Blip, images: &Tensor) -> Result<()> {
    let Some(matcher) = blip.matcher() else { bail!("the network matches nothing") };
    let (pass, eval) = (Pass::traced(), Pass::eval());
    let states = matcher.encoders.image(images, &pass);
    comparison.add_trace(pass, vision_names)?;
    let seen = EncoderStates::new(states.clone());
    let tokens = comparison.tokens("input_ids", Some("attention_mask"))?;
    let pass = Pass::traced();
    let logits = matcher.itm_logits(&tokens, &seen, &pass);
    comparison.add_trace(pass, |name| format!("itm.{name}"))?;
    comparison.add("itm_logits", &logits)?;
    comparison.add("itm_probabilities", &ops::softmax(&logits))?;
    let pass = Pass::traced();
    let cosines = cosines(&matcher, &states, &tokens, &pass);
    comparison.add_trace(pass, |name| format!("itc.{name}"))?;
    comparison.add("itc_cosine", &cosines)?;
    let encoded = tokens.starting_with(config.tokens.enc);
    comparison.add("itm_logits_enc", &matcher.itm_logits(&encoded, &seen, &eval))?;
    if comparison.wants("itm_logits_no_mask") {
        let unmasked = comparison.tokens("input_ids", None)?;
        comparison.add("itm_logits_no_mask", &matcher.itm_logits(&unmasked, &seen, &eval))?;
        comparison.add("itc_cosine_no_mask", &self::cosines(&matcher, &states, &unmasked, &eval))?;
    }
    for (prefix, input) in [("big.", "pixel_values_big"), ("resized.", "image_resized")] {
        if comparison.has(input) {
            resized(comparison, prefix, input)?;
        }
    }
    Ok(())
}

fn cosines(matcher: &Matcher<'_>, states: &Tensor, tokens: &TokenIds, pass: &Pass) -> Tensor {
    let image = matcher.contrast.embed_image(states, pass);
    ops::matmul_nt(&image, &matcher.embed_text(tokens, pass))
}

/// Larger images, for which positions are interpolated.
fn resized(comparison: &mut Comparison<'_>, prefix: &str, input: &str) -> Result<()> {
    let size = comparison.tensor(input)?.last_dim();
    let files = open_model(comparison.case, Some(size))?;
    let GroundedNetwork::Blip(blip) = files.load()? else { bail!("a BLIP stays one at another size") };
    if let Some(entry) = blip.parameters().get("vision_model.embeddings.position_embedding") {
        comparison.add(&format!("{prefix}pos_embed"), &entry.param.value())?;
    }
    let images = comparison.squares(input, size)?;
    let tokens = blip.vision_model().tokens(&images, &Pass::eval());
    comparison.add(&format!("{prefix}vision.tokens"), &tokens)
}

fn features(
    comparison: &mut Comparison<'_>,
    config: &BlipConfig,
    blip: &Blip,
    images: &Tensor,
) -> Result<()> {
    let Some(encoders) = blip.encoders() else { bail!("the network has not two encoders") };
    let image = encoders.image(images, &Pass::eval());
    comparison.add("image", &image)?;
    let tokens = comparison.tokens("input_ids", Some("attention_mask"))?;
    comparison.add("text", &encoders.text(&tokens, &Pass::eval()))?;
    let tokens = tokens.starting_with(config.tokens.enc);
    let both = encoders.multimodal(&tokens, &EncoderStates::new(image), &Pass::eval());
    comparison.add("multimodal", &both)
}

fn two_images(comparison: &mut Comparison<'_>, blip: &Blip, images: &Tensor) -> Result<()> {
    let Some(nlvr) = blip.nlvr() else { bail!("the network judges nothing") };
    let pass = Pass::traced();
    let sentences = comparison.tokens("input_ids", Some("attention_mask"))?;
    let prediction = nlvr.forward(images, &sentences, &pass);
    comparison.add_trace(pass, |name| name.replace("encoder.", "text."))?;
    comparison.add("prediction", &prediction)?;
    let targets = comparison.rows("targets", 2)?;
    comparison.add("loss", &ops::cross_entropy(&prediction, Targets::Classes(&targets)))
}

/// The losses of pre-training and of fine-tuning for retrieval, with the recorded negatives.
fn training(
    comparison: &mut Comparison<'_>,
    config: &BlipConfig,
    blip: &Blip,
    images: &Tensor,
) -> Result<()> {
    let Some(matcher) = blip.matcher() else { bail!("the network matches nothing") };
    let pass = Pass::traced();
    let states = matcher.encoders.image(images, &pass);
    let tokens = comparison.tokens("input_ids", Some("attention_mask"))?;
    matcher.contrast.embed_image(&states, &pass);
    matcher.embed_text(&tokens, &pass);
    comparison.add_trace(pass, str::to_owned)?;

    let batch = tokens.batch();
    let negative_images = comparison.rows("neg_image_for_text", batch)?;
    let negative_texts = comparison.rows("neg_text_for_image", batch)?;
    let all: Vec<u32> = (0..batch as u32).collect();
    let texts = tokens.select(&[&all[..], &all, &negative_texts].concat()).starting_with(config.tokens.enc);
    let seen = EncoderStates::new(states).select(&[&all[..], &negative_images, &all].concat());
    let logits = matcher.itm_logits(&texts, &seen, &Pass::eval());
    matching(comparison, &logits, batch)
}

/// Logits of true pairs and then of false ones.
pub fn matching(comparison: &mut Comparison<'_>, logits: &Tensor, batch: usize) -> Result<()> {
    comparison.add("itm_logits", logits)?;
    let targets: Vec<u32> = (0..3 * batch).map(|row| u32::from(row < batch)).collect();
    comparison.add("loss_itm", &ops::cross_entropy(logits, Targets::Classes(&targets)))
}

fn language_model(
    comparison: &mut Comparison<'_>,
    config: &BlipConfig,
    blip: &Blip,
    images: &Tensor,
) -> Result<()> {
    let Some(captioner) = blip.captioner() else { bail!("the network writes no captions") };
    let captions = comparison.tokens("input_ids", Some("attention_mask"))?.starting_with(config.tokens.dec);
    let logits = captioner.forward(images, &captions, &Pass::eval());
    comparison.add("lm_logits", &logits)?;
    let labels = all_but_padding(&captions.ids, config.tokens.pad);
    comparison.number("loss_lm", mean(&next_token(&logits, &labels, LABEL_SMOOTHING)))
}
