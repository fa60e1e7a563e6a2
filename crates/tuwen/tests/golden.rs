//! Loading by content and computing agree with openai/CLIP, open_clip and transformers, whatever file a model is in.

#![allow(clippy::print_stderr)] // says what is skipped

#[path = "common/golden.rs"]
mod golden;

use golden::case;
use tuwen::{Model, ModelFiles, Options};
use tuwen_models::clip::TokenIds;
use tuwen_nn::Pass;
use tuwen_tensor::Tensor;
use tuwen_tensor::checkpoint::{TensorSource, open};

fn tensor(source: &dyn TensorSource, names: &[&str]) -> Option<Tensor> {
    let name = names.iter().find(|name| source.info(name).is_some())?;
    let raw = source.read(name).expect("readable");
    Some(Tensor::new(&raw.to_f32(), &raw.shape))
}

/// `|got - expected| <= absolute + 1e-4 |expected|`
fn assert_close(what: &str, got: &Tensor, expected: &Tensor, absolute: f32) {
    assert_eq!(got.shape(), expected.shape(), "{what}");
    for (i, (got, expected)) in got.to_vec().iter().zip(expected.to_vec()).enumerate() {
        let off = (got - expected).abs();
        assert!(off <= absolute + 1e-4 * expected.abs(), "{what}[{i}]: got {got}, expected {expected}");
    }
}

/// Loads `model` of a case (`""`: the folder itself) and compares features and logits.
fn check(name: &str, models: &[&str], absolute: f32) {
    let Some(folder) = case(name) else { return };
    let inputs = open(&folder.join("inputs.safetensors")).expect("inputs");
    let expected = open(&folder.join("expected.safetensors")).expect("expected");
    let pixel_values = tensor(&inputs, &["pixel_values", "image"]).expect("images");
    let ids = tensor(&inputs, &["input_ids", "text"]).expect("texts");
    let tokens = TokenIds {
        ids: ids.to_vec().into_iter().map(|id| id as u32).collect(),
        length: ids.shape()[1],
        attention_mask: None,
    };
    for file in models {
        let files =
            ModelFiles::open(&folder.join(file).to_string_lossy(), &Options::default()).expect("opens");
        assert_eq!(files.notes.is_empty(), !name.contains("openai"), "{name}/{file}: {:?}", files.notes);
        let model = Model::new(files).expect("loads");
        let (clip, pass) = (&model.clip().expect("a CLIP").network, Pass::eval());
        let (image, text) = (clip.embed_image(&pixel_values, &pass), clip.embed_text(&tokens, &pass));
        for (what, got) in [
            ("vision.projected", &clip.image_features(&pixel_values, &pass)),
            ("vision.normalised", &image),
            ("text.projected", &clip.text_features(&tokens, &pass)),
            ("text.normalised", &text),
            ("logits_per_image", &clip.logits_per_image(&image, &text)),
        ] {
            let expected = tensor(&expected, &[what]).expect("a reference result");
            assert_close(&format!("{name}/{file}: {what}"), got, &expected, absolute);
        }
        // A tiny vocabulary without files: images work, texts are refused with the reason.
        let message = model.embed_texts(&["a cat"]).expect_err("no tokenizer").to_string();
        assert!(message.contains("no tokenizer") && message.contains("tokenizer.json"), "{message}");
    }
}

#[test]
fn hugging_face() {
    check("clip-vit-hf-tiny", &["", "model.safetensors"], 2e-5);
    check("clip-vit-hf-gelu-tiny", &["", "model.safetensors"], 2e-5);
}

#[test]
fn openai() {
    check("clip-vit-openai-tiny", &["model.pt", "state_dict.pt"], 3e-5);
    check("clip-rn-openai-tiny", &["model.pt", "state_dict.pt"], 3e-5);
}

#[test]
fn open_clip() {
    check("clip-vit-openclip-tiny", &["", "open_clip_model.safetensors"], 3e-5);
    check("clip-rn-openclip-tiny", &["", "open_clip_model.safetensors"], 2e-4);
}
