//! Cases of BLIP, by the task that their checkpoint is made for.

use anyhow::{Result, bail};
use tuwen::{GroundedConfig, GroundedFiles, GroundedNetwork};
use tuwen_models::TokenIds;
use tuwen_models::bert::EncoderStates;
use tuwen_models::blip::{Blip, BlipConfig, BlipTask, Matcher};
use tuwen_nn::Pass;
use tuwen_tensor::{Targets, Tensor, ops};

use super::losses::{all_but_padding, mean, next_token};
use super::{Comparison, open_model, texts, vision_names};

/// Computes what a case records, for the network of its checkpoint.
pub fn run(comparison: &mut Comparison<'_>, files: &GroundedFiles, blip: &Blip) -> Result<()> {
    let GroundedConfig::Blip(config) = &files.config else { bail!("a BLIP has the configuration of one") };
    let images = comparison.images(config.vision.image_size)?;
    match config.task {
        BlipTask::Caption => texts::captions(comparison, config, blip, &images),
        BlipTask::Vqa => texts::answers(comparison, config, blip, &images),
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
    comparison.number("loss_lm", mean(&next_token(&logits, &labels, texts::LABEL_SMOOTHING)))
}
