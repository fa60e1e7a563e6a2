//! Cases of ALBEF.

use anyhow::{Context as _, Result};
use tuwen::GroundedFiles;
use tuwen_models::TokenIds;
use tuwen_models::albef::Albef;
use tuwen_models::bert::EncoderStates;
use tuwen_nn::Pass;
use tuwen_tensor::{Tensor, ops};

use super::{Comparison, blip};

/// Computes what a case records.
pub fn run(comparison: &mut Comparison<'_>, files: &GroundedFiles, albef: &Albef) -> Result<()> {
    let images = comparison.images(files.config.vision().image_size)?;
    let tokens = comparison.tokens("input_ids", Some("attention_mask"))?;
    let (image, text) = (albef.image(&images, &Pass::eval()), albef.text(&tokens, &Pass::eval()));
    comparison.add("eval.vision.tokens", &image)?;
    comparison.add("eval.text.states", &text)?;
    let contrast = albef.contrast().context("the network compares nothing")?;
    let pass = Pass::traced();
    let cosines = ops::matmul_nt(&contrast.embed_image(&image, &pass), &contrast.embed_text(&text, &pass));
    comparison.add_trace(pass, str::to_owned)?;
    comparison.add("eval.similarity", &cosines)?;
    all_pairs(comparison, albef, &image, (&text, &tokens))?;

    let batch = tokens.batch();
    let negative_images = comparison.rows("neg_image_for_text", batch)?;
    let negative_texts = comparison.rows("neg_text_for_image", batch)?;
    let all: Vec<u32> = (0..batch as u32).collect();
    let rows = [&all[..], &all, &negative_texts].concat();
    let seen = EncoderStates::new(image.clone()).select(&[&all[..], &negative_images, &all].concat());
    let fused = albef.fuse(&gather(&text, &rows), &tokens.select(&rows), &seen, &Pass::eval());
    let logits = albef.itm_logits(&fused).context("the network matches nothing")?;
    blip::matching(comparison, &logits, batch)?;
    if comparison.has("mlm_input_ids") {
        let masked = comparison.tokens("mlm_input_ids", Some("attention_mask"))?;
        let fused = albef.multimodal(&masked, &EncoderStates::new(image), &Pass::eval());
        let logits = albef.mlm_logits(&fused).context("the network predicts no masked tokens")?;
        comparison.add("mlm_logits", &logits)?;
    }
    Ok(())
}

/// Every text beside every image: those of an image stand together.
fn all_pairs(
    comparison: &mut Comparison<'_>,
    albef: &Albef,
    image: &Tensor,
    (text, tokens): (&Tensor, &TokenIds),
) -> Result<()> {
    let batch = tokens.batch();
    let rows: Vec<u32> = (0..batch as u32).collect::<Vec<_>>().repeat(batch);
    let seen = EncoderStates::new(image.clone());
    let fused = albef.fuse(&gather(text, &rows), &tokens.select(&rows), &seen, &Pass::eval());
    comparison.add("eval.fusion.states_image0", &ops::narrow(&fused, 0, 0, batch))?;
    let logits = albef.itm_logits(&fused).context("the network matches nothing")?;
    comparison.add("eval.itm_logits", &logits.reshape(&[batch, batch, 2]))
}

fn gather(states: &Tensor, rows: &[u32]) -> Tensor {
    let [batch, tokens, width] = states.dims();
    ops::gather_rows(&states.reshape(&[batch, tokens * width]), rows).reshape(&[rows.len(), tokens, width])
}
