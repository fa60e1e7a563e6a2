//! BLIP in transformers' directories.

use std::sync::Arc;

use tuwen_models::bert::EncoderStates;
use tuwen_models::blip::weights::Layout;
use tuwen_models::blip::{Blip, BlipConfig, BlipDialect, BlipTask, resized_positions};
use tuwen_nn::{Pass, Scope};
use tuwen_tensor::checkpoint::TensorSource;
use tuwen_tensor::{Tensor, ops};

use crate::support::{Golden, mean, next_token_losses, vision_names};
use crate::written::{config_of, writes};

/// The network of a case; for images of another size, if that is given.
fn load(golden: &Golden, image_size: Option<usize>) -> (Blip, BlipConfig) {
    let weights = golden.weights("model.safetensors");
    assert_eq!(Layout::of(&weights), Some(Layout::HuggingFace));
    let source: Arc<dyn TensorSource> = Layout::HuggingFace.import(weights).expect("tied").into();
    let task = BlipTask::of(&source).expect("a BLIP");
    let mut config = BlipConfig::from_hf_json(&golden.text("config.json"), task).expect("a configuration");
    assert_eq!((config.dialect, config.vision.layer_norm_eps), (BlipDialect::HuggingFace, 1e-5));
    let scope = match image_size {
        Some(size) => Scope::load(Arc::new(resized_positions(source, &mut config.vision, size))),
        None => Scope::load(source),
    };
    (Blip::new(&config, scope).expect("loads"), config)
}

#[test]
fn captions() {
    let Some(golden) = Golden::open("blip-hf-tiny-caption") else { return };
    let (blip, config) = load(&golden, None);
    assert_eq!((config.task, config.tokens.dec, config.tokens.sep), (BlipTask::Caption, 171, 102));
    let captioner = blip.captioner().expect("writes");
    let (pixel_values, pass) = (golden.input("pixel_values"), Pass::traced());
    let tokens = golden.tokens("input_ids", Some("attention_mask"));
    let logits = captioner.forward(&pixel_values, &tokens, &pass);
    golden.check_trace(pass, vision_names);
    golden.check("logits", &logits);
    golden.check("loss", &mean(&next_token_losses(&logits, &golden.integers("labels"), 0.0)));
    let unmasked = golden.tokens("input_ids", None);
    golden.check("logits_no_mask", &captioner.forward(&pixel_values, &unmasked, &Pass::eval()));

    let states = captioner.look(&pixel_values, &Pass::eval());
    let prompts = golden.tokens("prompt_ids", None).starting_with(171);
    let prompts: Vec<Vec<u32>> = (0..3).map(|row| prompts.row(row)[..4].to_vec()).collect();
    for (prefix, start) in [("generate", vec![vec![171]; 3]), ("generate.prompt", prompts)] {
        for (name, settings) in golden.meta()["generation"].as_object().expect("settings") {
            let name = format!("{prefix}.{name}");
            writes(&golden, captioner.text_decoder, &states, &start, &name, &config_of(settings));
        }
    }
    golden.finish(&[]);
}

#[test]
fn answers() {
    let Some(golden) = Golden::open("blip-hf-tiny-vqa") else { return };
    let (blip, config) = load(&golden, None);
    assert_eq!((config.task, config.grounded_start()), (BlipTask::Vqa, 101));
    let answerer = blip.answerer().expect("answers");
    let (pixel_values, pass) = (golden.input("pixel_values"), Pass::traced());
    let questions = golden.tokens("input_ids", Some("attention_mask"));
    // transformers 5 loses the mask of the question on its way to the decoder: padding is looked at.
    let states = answerer.ask(&pixel_values, &questions, &pass);
    let labels = golden.integers("labels");
    let unmasked = answerer.text_decoder.forward(&golden.tokens("labels", None), &states, &pass);
    // What was recorded of the image's states is the class token, normalised once more.
    let rename = |name: &str| match name {
        "vision.tokens" => "not recorded".to_owned(),
        name => vision_names(name),
    };
    golden.check_trace(pass, rename);
    let tokens = answerer.vision_model.tokens(&pixel_values, &Pass::eval());
    golden.check("vision.tokens", &answerer.vision_model.pooled_again(&tokens));
    golden.check("logits", &unmasked);
    golden.check("loss", &mean(&next_token_losses(&unmasked, &labels, 0.0)));
    let masked = golden.tokens("labels", Some("labels_attention_mask"));
    let masked = answerer.text_decoder.forward(&masked, &states, &Pass::eval());
    let labels: Vec<i64> = labels.into_iter().map(|id| if id == 0 { -100 } else { id }).collect();
    golden.check("loss_labels_masked", &mean(&next_token_losses(&masked, &labels, 0.0)));

    let start = vec![vec![171]; 3];
    let encoded = questions.clone().starting_with(172);
    for (questions, prefix) in [(questions, "generate"), (encoded, "generate.enc")] {
        let states = answerer.ask(&pixel_values, &questions, &Pass::eval());
        for (name, settings) in golden.meta()["generation"].as_object().expect("settings") {
            let name = format!("{prefix}.{name}");
            writes(&golden, answerer.text_decoder, &states, &start, &name, &config_of(settings));
        }
    }
    golden.finish(&[]);
}

#[test]
fn matches() {
    let Some(golden) = Golden::open("blip-hf-tiny-itm") else { return };
    let (blip, config) = load(&golden, None);
    assert_eq!(config.task, BlipTask::Retrieval);
    let matcher = blip.matcher().expect("matches");
    let (pixel_values, pass) = (golden.input("pixel_values"), Pass::traced());
    let image = matcher.encoders.image(&pixel_values, &pass);
    golden.check_trace(pass, vision_names);
    let images = EncoderStates::new(image.clone());
    let masked = golden.tokens("input_ids", Some("attention_mask"));
    let pass = Pass::traced();
    let logits = matcher.itm_logits(&masked, &images, &pass);
    golden.check_trace(pass, |name| format!("itm.{name}"));
    golden.check("itm_logits", &logits);
    golden.check("itm_probabilities", &ops::softmax(&logits));
    let cosines = |tokens, pass: &Pass| -> Tensor {
        let image = matcher.contrast.embed_image(&image, pass);
        ops::matmul_nt(&image, &matcher.embed_text(tokens, pass))
    };
    let pass = Pass::traced();
    golden.check("itc_cosine", &cosines(&masked, &pass));
    golden.check_trace(pass, |name| format!("itc.{name}"));
    let eval = Pass::eval();
    let encoded = masked.clone().starting_with(config.tokens.enc);
    golden.check("itm_logits_enc", &matcher.itm_logits(&encoded, &images, &eval));
    let unmasked = golden.tokens("input_ids", None);
    golden.check("itm_logits_no_mask", &matcher.itm_logits(&unmasked, &images, &eval));
    golden.check("itc_cosine_no_mask", &cosines(&unmasked, &eval));

    let (big, _) = load(&golden, Some(50));
    golden.check("big.vision.tokens", &big.vision_model().tokens(&golden.input("pixel_values_big"), &eval));
    golden.finish(&[]);
}
