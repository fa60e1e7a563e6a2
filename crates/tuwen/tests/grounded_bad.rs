//! BLIP and ALBEF from files that are cut, changed or of something else: one line that says what, where and why.

#![allow(clippy::print_stderr)] // says what is skipped

#[path = "common/golden.rs"]
mod golden;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use golden::case;
use tuwen::{GroundedFiles, Model, Opened, Options};
use tuwen_tensor::checkpoint::{RawTensor, TensorSource as _, open, write_safetensors};

/// A copy of a case's model, whose files may be changed.
fn copy(name: &str) -> Option<tempfile::TempDir> {
    let folder = case(name)?;
    let place = tempfile::tempdir().expect("a directory");
    for file in
        ["model.safetensors", "model.pth", "config.json", "med_config.json", "config_bert.json", "vocab.txt"]
    {
        if let Ok(bytes) = fs::read(folder.join(file)) {
            fs::write(place.path().join(file), bytes).expect("written");
        }
    }
    Some(place)
}

/// What is said where a model does not load.
fn said(place: &Path) -> String {
    let opened = Opened::open(&place.to_string_lossy(), &Options::default());
    opened.and_then(Model::of).err().expect("does not load").to_string()
}

fn one_line(place: &Path, expected: &str) {
    let message = said(place);
    assert!(message.contains(expected) && !message.contains('\n'), "{expected:?} is not in: {message}");
}

/// Changes a JSON file.
fn change(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("read");
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).expect("written");
}

/// Changes the tensors of a safetensors file.
fn rewrite(path: &Path, change: impl FnOnce(&mut BTreeMap<String, RawTensor<'static>>)) {
    let file = open(path).expect("opened");
    let read = |name: String| (name.clone(), file.read(&name).expect("read").into_owned());
    let mut tensors = file.names().into_iter().map(read).collect();
    change(&mut tensors);
    write_safetensors(path, tensors, &BTreeMap::new()).expect("written");
}

#[test]
fn a_checkpoint_that_is_cut_is_named() {
    for (name, file) in [
        ("blip-sf-tiny-itm", "model.pth"),
        ("albef-sf-retrieval-tiny", "model.pth"),
        ("blip-hf-tiny-caption", "model.safetensors"),
    ] {
        let Some(place) = copy(name) else { return };
        let path = place.path().join(file);
        let whole = fs::read(&path).expect("read");
        for part in [0, 9, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..part]).expect("written");
            one_line(place.path(), file);
        }
    }
}

#[test]
fn a_configuration_of_something_else_is_named() {
    for (from, to, expected) in [
        ("\"blip\"", "\"clip\"", "config.json: model_type is \"clip\"; expected \"blip\""),
        ("\"num_attention_heads\": ", "\"num_attention_heads\": 7", "does not make"),
        ("\"num_hidden_layers\": ", "\"num_hidden_layers\": 99999", "num_hidden_layers"),
        ("\"patch_size\": ", "\"patch_size\": 0, \"x\": ", "patch_size is 0"),
        ("\"hidden_size\": ", "\"hidden_size\": 4000000000", "hidden_size"),
        ("{", "[", "config.json: "),
    ] {
        let Some(place) = copy("blip-hf-tiny-itm") else { return };
        change(&place.path().join("config.json"), from, to);
        one_line(place.path(), expected);
    }
    let Some(place) = copy("albef-sf-retrieval-tiny") else { return };
    change(&place.path().join("config_bert.json"), "\"fusion_layer\": 1", "\"fusion_layer\": 6");
    one_line(place.path(), "config_bert.json: fusion_layer is 6; the weights look at images from layer 1 on");
    let Some(place) = copy("blip-sf-tiny-itm") else { return };
    change(&place.path().join("med_config.json"), "\"gelu\"", "\"mish\"");
    one_line(place.path(), "med_config.json: hidden_act is \"mish\"");
}

#[test]
fn weights_that_are_missing_or_of_another_size_are_listed() {
    let Some(place) = copy("blip-hf-tiny-itm") else { return };
    let path = place.path().join("model.safetensors");
    let name = "text_encoder.encoder.layer.0.crossattention.self.key.weight";
    rewrite(&path, |tensors| drop(tensors.remove(name)));
    assert!(said(place.path()).contains(name), "{}", said(place.path()));
    let Some(place) = copy("blip-hf-tiny-itm") else { return };
    let path = place.path().join("model.safetensors");
    rewrite(&path, |tensors| {
        drop(tensors.insert("itm_head.bias".into(), RawTensor::from_f32(&[3], &[0.0; 3])))
    });
    let message = said(place.path());
    assert!(
        message.contains("itm_head.bias") && message.contains("[2]") && message.contains("[3]"),
        "{message}"
    );
}

#[test]
fn absurd_sizes_are_refused_before_anything_is_made() {
    let Some(place) = copy("blip-hf-tiny-itm") else { return };
    let path = place.path().join("model.safetensors");
    rewrite(&path, |tensors| {
        let layer = format!("text_encoder.encoder.layer.{}.x", u64::MAX / 2);
        tensors.insert(layer, RawTensor::from_f32(&[1], &[0.0]));
    });
    assert!(said(place.path()).contains("text_encoder.encoder.layer."), "{}", said(place.path()));
    // Without a configuration sizes are read off the names.
    let Some(place) = copy("blip-sf-tiny-itm") else { return };
    let pickle = place.path().join("model.pth");
    let file = open(&pickle).expect("opened");
    let read = |name: String| (name.clone(), file.read(&name).expect("read").into_owned());
    let mut tensors: BTreeMap<_, _> = file.names().into_iter().map(read).collect();
    tensors.insert("text_encoder.encoder.layer.77777777.x".into(), RawTensor::from_f32(&[1], &[0.0]));
    write_safetensors(&place.path().join("model.safetensors"), tensors, &BTreeMap::new()).expect("written");
    fs::remove_file(&pickle).expect("removed");
    one_line(place.path(), "expected at most 4096");
}

#[test]
fn a_vocabulary_of_another_model_is_refused() {
    let Some(place) = copy("blip-sf-tiny-itm") else { return };
    let path = place.path().join("vocab.txt");
    let more: String = (0..50).map(|word| format!("word{word}\n")).collect();
    let text = fs::read_to_string(&path).expect("read");
    fs::write(&path, format!("{}\n{more}", text.trim_end())).expect("written");
    one_line(place.path(), "the tokenizer has 292 tokens, the model only 242");
    fs::write(&path, "a\nb\n").expect("written");
    one_line(place.path(), "vocab.txt: token \"[PAD]\" is missing");
}

#[test]
fn an_adapter_is_for_other_models() {
    let Some(folder) = case("blip-sf-tiny-itm") else { return };
    let options = Options { adapter: Some("adapter".into()), ..Options::default() };
    let opened = GroundedFiles::open(&folder.join("model.pth").to_string_lossy(), &options);
    let message = opened.err().expect("refused").to_string();
    assert_eq!(message, "adapter: adapters are for CLIP models, and this is none");
}
