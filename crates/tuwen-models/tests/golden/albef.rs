//! ALBEF in files of salesforce/ALBEF.

use std::sync::Arc;

use tuwen_models::albef::weights::{from_salesforce, is_albef, to_salesforce};
use tuwen_models::albef::{Albef, AlbefConfig, AlbefTask};
use tuwen_models::bert::EncoderStates;
use tuwen_nn::{Pass, Scope};
use tuwen_tensor::checkpoint::TensorSource;
use tuwen_tensor::{Targets, Tensor, ops};

use crate::support::{Golden, assert_same_weights, select};

fn load(golden: &Golden) -> (Albef, AlbefConfig) {
    let weights = golden.weights("model.pth");
    assert!(is_albef(&weights) && tuwen_models::blip::weights::Layout::of(&weights).is_none());
    let source: Arc<dyn TensorSource> = from_salesforce(weights).expect("tied").into();
    let config = AlbefConfig::from_state_dict(&source)
        .and_then(|config| config.with_bert_config(&golden.text("config_bert.json")))
        .and_then(|config| config.with_arguments(&golden.text("config.json")))
        .expect("sizes");
    assert_eq!((config.vision.layer_norm_eps, config.text.layer_norm_eps), (1e-6, 1e-12));
    assert_eq!((config.fusion_layer(), config.text.type_vocab_size), (1, Some(2)));
    (Albef::new(&config, Scope::load(source)).expect("loads"), config)
}

/// Scores of all pairs, and matching with the recorded negatives.
fn scores(golden: &Golden, albef: &Albef) {
    let (pixel_values, eval) = (golden.input("image"), Pass::eval());
    let tokens = golden.tokens("input_ids", Some("attention_mask"));
    let (image, text) = (albef.image(&pixel_values, &eval), albef.text(&tokens, &eval));
    golden.check("eval.vision.tokens", &image);
    golden.check("eval.text.states", &text);
    let (contrast, pass) = (albef.contrast().expect("compares"), Pass::traced());
    let cosines = ops::matmul_nt(&contrast.embed_image(&image, &pass), &contrast.embed_text(&text, &pass));
    golden.check("eval.similarity", &cosines);
    golden.check_trace(pass, str::to_owned);

    // Every text beside every image: those of an image stand together.
    let images = EncoderStates::new(image);
    let all: Vec<u32> = (0..4).collect();
    let repeated = all.repeat(4);
    let rows = |rows: &[u32]| (gather(&text, rows), select(&tokens, rows));
    let (texts, tokens_of_texts) = rows(&repeated);
    let fused = albef.fuse(&texts, &tokens_of_texts, &images, &eval);
    golden.check("eval.fusion.states_image0", &ops::narrow(&fused, 0, 0, 4));
    let logits = albef.itm_logits(&fused).expect("matches");
    golden.check("eval.itm_logits", &logits.reshape(&[4, 4, 2]));

    let numbers = |name: &str| golden.integers(name).into_iter().map(|row| row as u32).collect::<Vec<_>>();
    let (negative_images, negative_texts) = (numbers("neg_image_for_text"), numbers("neg_text_for_image"));
    let (texts, tokens_of_texts) = rows(&[&all[..], &all, &negative_texts].concat());
    let images = images.select(&[&all[..], &negative_images, &all].concat());
    let logits = albef.itm_logits(&albef.fuse(&texts, &tokens_of_texts, &images, &eval)).expect("matches");
    golden.check("itm_logits", &logits);
    let targets: Vec<u32> = (0..12).map(|row| u32::from(row < 4)).collect();
    golden.check("loss_itm", &ops::cross_entropy(&logits, Targets::Classes(&targets)));
}

fn gather(states: &Tensor, rows: &[u32]) -> Tensor {
    let [batch, tokens, width] = states.dims();
    ops::gather_rows(&states.reshape(&[batch, tokens * width]), rows).reshape(&[rows.len(), tokens, width])
}

fn writes_back(golden: &Golden, albef: &Albef) {
    let written = to_salesforce(albef.parameters());
    assert_same_weights(&golden.name, &golden.weights("model.pth"), &written);
}

/// What needs momentum copies and queues, which belong to training.
const OF_TRAINING: [&str; 6] =
    ["loss_ita", "loss_mlm", "mlm_logits_momentum", "text_proj_m.", "vision_proj_m.", "weights_"];

#[test]
fn pre_training() {
    let Some(golden) = Golden::open("albef-sf-pretrain-tiny") else { return };
    let (albef, config) = load(&golden);
    assert_eq!((config.task, config.temperature), (AlbefTask::Pretrain, true));
    scores(&golden, &albef);
    let images = EncoderStates::new(albef.image(&golden.input("image"), &Pass::eval()));
    let masked = golden.tokens("mlm_input_ids", Some("attention_mask"));
    let logits = albef.mlm_logits(&albef.multimodal(&masked, &images, &Pass::eval())).expect("predicts");
    golden.check("mlm_logits", &logits);
    writes_back(&golden, &albef);
    golden.finish(&OF_TRAINING);
}

#[test]
fn retrieval() {
    let Some(golden) = Golden::open("albef-sf-retrieval-tiny") else { return };
    let (albef, config) = load(&golden);
    assert_eq!(config.task, AlbefTask::Retrieval);
    scores(&golden, &albef);
    writes_back(&golden, &albef);
    golden.finish(&OF_TRAINING);
}
