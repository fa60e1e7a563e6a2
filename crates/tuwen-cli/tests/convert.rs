//! `convert`: what is written loads again, bit for bit, and nothing is written over unasked.

mod common;

use std::fs;
use std::path::Path;

use common::{fixtures, json_lines, numbers, run, stderr, workplace};
use tuwen::{ModelFiles, Options};
use tuwen_tensor::checkpoint::TensorSource;

/// Converts and returns the line that says what was written.
fn convert(place: &Path, source: &str, destination: &str, to: &str, more: &[&str]) -> serde_json::Value {
    let arguments = [&["convert", source, destination, "--to", to], more].concat();
    json_lines(place, &arguments, 0).remove(0)
}

fn open(path: &Path) -> ModelFiles {
    ModelFiles::open(&path.to_string_lossy(), &Options::default()).expect("opens")
}

/// The weights of two models under our names, bit for bit; the configurations but for where a text ends.
fn assert_same(first: &Path, second: &Path) {
    let (first, second) = (open(first), open(second));
    assert_eq!(first.config.difference(&second.config), None);
    assert_eq!(first.weights.names(), second.weights.names());
    for name in first.weights.names() {
        let read = |files: &ModelFiles| files.weights.read(&name).expect("read").into_owned();
        assert!(read(&first) == read(&second), "{name}");
    }
}

/// A model that all three programs have: heads of 64, OpenAI's activation.
fn openai_model(place: &Path) -> bool {
    let Some(fixtures) = fixtures() else { return false };
    fs::copy(fixtures.join("clip-vit-openai-tiny/state_dict.pt"), place.join("start.pt")).expect("copied");
    true
}

#[test]
fn a_round_through_all_programs_changes_no_bit() {
    let place = workplace();
    if !openai_model(place.path()) {
        return;
    }
    for (source, destination, to) in [
        ("start.pt", "hf", "hf"),
        ("hf", "openai", "openai"),
        ("openai", "open_clip", "open_clip"),
        ("open_clip", "hf2", "hf"),
        ("hf2", "end.pt", "openai"),
        ("start.pt", "direct.pt", "openai"),
        ("end.pt", "plain.pth", "openai"),
    ] {
        let line = convert(place.path(), source, destination, to, &[]);
        assert_eq!((line["to"].as_str(), line["tensors"].as_u64() > Some(0)), (Some(to), true), "{line}");
        assert_same(&place.path().join("start.pt"), &place.path().join(destination));
    }
    let same = |a: &str, b: &str| {
        let read = |name| fs::read(place.path().join(name)).expect("read");
        assert!(read(a) == read(b), "{a} {b}");
    };
    same("hf/model.safetensors", "hf2/model.safetensors");
    same("hf/config.json", "hf2/config.json");
    same("end.pt", "direct.pt");
    same("openai/model.pt", "direct.pt");
}

#[test]
fn a_resnet_goes_to_the_programs_that_have_one() {
    let place = workplace();
    let Some(fixtures) = fixtures() else { return };
    let start = fixtures.join("clip-rn-openai-tiny/model.pt");
    let source = start.to_string_lossy().into_owned();
    convert(place.path(), &source, "open_clip", "open_clip", &[]);
    convert(place.path(), "open_clip", "end.pt", "openai", &[]);
    assert_same(&start, &place.path().join("open_clip"));
    assert_same(&start, &place.path().join("end.pt"));
    let said = stderr(&run(place.path(), &["convert", "end.pt", "hf", "--to", "hf"]));
    assert!(said.contains("transformers cannot hold this model: its CLIP has no ResNet"), "{said}");
    assert!(!place.path().join("hf").exists());
}

#[test]
fn vectors_of_a_converted_model_are_those_of_the_model() {
    let place = workplace();
    let embed = |model: &str| {
        let arguments = ["embed", "red.png", "--text", "a cat", "--precision", "f32", "--model", model];
        let lines = json_lines(place.path(), &arguments, 0);
        lines.iter().flat_map(|line| numbers(&line["embedding"])).collect::<Vec<_>>()
    };
    convert(place.path(), "model", "open_clip", "open_clip", &[]);
    assert_eq!(embed("model").len(), 24);
    assert_eq!(embed("model"), embed("open_clip"));
    convert(place.path(), "open_clip", "half", "hf", &["--dtype", "f16"]);
    let off = embed("model").into_iter().zip(embed("half")).map(|(a, b)| (a - b).abs());
    let off = off.fold(0.0, f64::max);
    assert!(off > 0.0 && off < 2e-3, "{off}");
    let sizes = |name: &str| fs::metadata(place.path().join(name)).expect("there").len();
    assert!(sizes("half/model.safetensors") < sizes("model/model.safetensors") * 2 / 3);
    let config = fs::read_to_string(place.path().join("half/config.json")).expect("read");
    assert!(config.contains(r#""dtype": "float32""#), "the vectors are: {config}");
}

#[test]
fn what_a_program_cannot_hold_is_refused_by_name() {
    let place = workplace();
    let config = fs::read_to_string(place.path().join("model/config.json")).expect("read");
    let variant = |name: &str, from: &str, to: &str| {
        let directory = place.path().join(name);
        fs::create_dir(&directory).expect("created");
        for file in ["model.safetensors", "vocab.json", "merges.txt"] {
            fs::copy(place.path().join("model").join(file), directory.join(file)).expect("copied");
        }
        assert!(config.contains(from), "{config}");
        fs::write(directory.join("config.json"), config.replace(from, to)).expect("written");
    };
    variant("gelu", "\"vision_config\":{", "\"vision_config\":{\"hidden_act\":\"gelu\",");
    variant("eps", "\"vision_config\":{", "\"vision_config\":{\"layer_norm_eps\":0.001,");
    variant("crop", "", "");
    variant("early", "\"eos_token_id\":", "\"eos_token_id\":3,\"former\":");
    for tokenizer in ["vocab.json", "merges.txt"] {
        fs::remove_file(place.path().join("early").join(tokenizer)).expect("removed");
    }
    let pixels = r#"{"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 20},
        "crop_size": {"height": 16, "width": 16}}"#;
    fs::write(place.path().join("crop/preprocessor_config.json"), pixels).expect("written");
    for (source, to, expected) in [
        (
            "model",
            "openai",
            "openai/CLIP cannot hold this model: vision num_attention_heads is 3, which it would read as 0",
        ),
        ("gelu", "open_clip", "the towers have different activations (hidden_act)"),
        ("eps", "open_clip", "vision layer_norm_eps is 0.001, which it would read as 0.00001"),
        ("crop", "open_clip", "resize is Some(ShortestEdge(20))"),
        ("early", "open_clip", "texts end at id 3, and it takes the largest id for the end"),
        ("builtin", "hf", "its CLIP has no ResNet image tower"),
    ] {
        let output = run(place.path(), &["convert", source, "out", "--to", to]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{source}: {said}");
        assert!(output.stdout.is_empty() && !place.path().join("out").exists());
    }
}

#[test]
fn nothing_is_written_over_unasked() {
    let place = workplace();
    let path = |name: &str| place.path().join(name);
    let refused = |destination: &str, more: &[&str], expected: &str| {
        let arguments = [&["convert", "model", destination, "--to", "open_clip"], more].concat();
        let output = run(place.path(), &arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{destination}: {said}");
        assert!(said.contains(expected) && said.contains(destination), "{said}");
    };
    convert(place.path(), "model", "out", "open_clip", &[]);
    // What a conversion wrote, a conversion may replace: with another layout nothing of the first is left.
    convert(place.path(), "model", "out", "hf", &[]);
    assert!(!path("out/open_clip_model.safetensors").exists());
    let written = fs::read(path("out/model.safetensors")).expect("read");
    fs::write(path("out/notes.txt"), "mine").expect("written");
    refused("out", &[], "it holds notes.txt, which no conversion wrote");
    assert_eq!(fs::read(path("out/model.safetensors")).expect("read"), written);
    convert(place.path(), "model", "out", "open_clip", &["--force"]);
    assert!(!path("out/notes.txt").exists());
    // Where the model itself lies, and what is no place for a model.
    for force in [&[][..], &["--force"]] {
        refused("model", force, "this is where the model is read from");
        refused("./model/../model", force, "this is where the model is read from");
        refused(".", force, "give the directory by its name");
        refused("../", force, "");
        refused("red.png", force, "a file of this name is in the way");
        refused("photos", force, "it holds the directory deep");
    }
    fs::create_dir(path("empty")).expect("created");
    convert(place.path(), "model", "empty", "hf", &[]);
    let rubble = fs::read_dir(place.path()).expect("listed").filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with('.'))
    });
    assert_eq!(rubble.count(), 0);
}

#[test]
fn a_single_file_is_written_over_by_force_only() {
    let place = workplace();
    if !openai_model(place.path()) {
        return;
    }
    let arguments = ["convert", "start.pt", "start.pt", "--to", "openai", "--force"];
    let said = stderr(&run(place.path(), &arguments));
    assert!(said.contains("this is where the model is read from"), "{said}");
    fs::write(place.path().join("there.pt"), "mine").expect("written");
    let arguments = ["convert", "start.pt", "there.pt", "--to", "openai"];
    let output = run(place.path(), &arguments);
    assert!(stderr(&output).contains("hint: give another name, or --force"), "{}", stderr(&output));
    assert_eq!(fs::read(place.path().join("there.pt")).expect("read"), b"mine");
    convert(place.path(), "start.pt", "there.pt", "openai", &["--force"]);
    assert_same(&place.path().join("start.pt"), &place.path().join("there.pt"));
}
